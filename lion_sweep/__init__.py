"""Train, evaluate and compare sparse and dense LLM retrievers at equal compute."""

from lion_sweep.machine import environment

environment.settle()
