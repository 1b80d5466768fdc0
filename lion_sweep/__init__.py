"""Train, evaluate and compare sparse and dense LLM retrievers at equal compute."""
