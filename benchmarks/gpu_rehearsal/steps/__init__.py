"""The steps, in the order of their worth."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A module with `cases(target)`, and the seconds that it may take on one H100."""

    name: str
    seconds: float
    needs: tuple[str, ...] = ()  # modules beside those that every step imports
    interpreted: bool = False  # without CUDA its kernels run in Triton's interpreter
    module: str = ""  # elsewhere than beside this file

    @property
    def path(self) -> str:
        """The module to import."""
        return self.module or f"{__name__}.{self.name}"


STEPS = (
    Step("kernels", 110, ("triton", "pytest"), interpreted=True),
    Step("memory", 130),
    Step("head", 60, ("triton",), interpreted=True),
    Step("training", 130, ("triton",)),
    Step("encoding", 110, ("triton", "scipy")),
    Step("cells", 130, ("hydra", "wordllama", "Stemmer", "ranx", "submitit")),
    Step("search", 90, ("numba",)),
    Step("compiled", 150, ("triton",)),
)
LEFT_OUT = {
    "SmolLM2-135M": "its weights, 93 MB as its package has them, are more than can travel along"
}
