"""A decoder, as a rule one whose every token sees every other: loading, adapters, saving.

Shapes: B texts, L tokens (padded, on either side), D hidden dimensions, V vocabulary entries.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, load_peft_weights
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import AutoModelForCausalLM, PreTrainedModel

from lion_sweep.config import Attention, Lora
from lion_sweep.data.pretrained import config_of
from lion_sweep.data.whole import whole
from lion_sweep.errors import UserError
from lion_sweep.models.probes import check_attention, unreadable
from lion_sweep.models.sparse import CENTRE, LEVEL

ADDED = "encoder.safetensors"  # beside a decoder's weights, or its adapter's
FROZEN = frozenset({LEVEL, CENTRE})  # of what it has: kept as it came


class Backbone(nn.Module):
    """A causal language model, bidirectional or left as it is, with or without LoRA adapters.

    `added` are weights that an encoder has besides: they train (but for FROZEN), move and are saved
    with it, in fp32, and are never sharded.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        no_head: str = "",
        added: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`no_head`: why nobody may read its head, where nobody may."""
        super().__init__()
        self.model, self.no_head = model, no_head
        self.added = nn.ParameterDict(added or {})
        for name in FROZEN & self.added.keys():
            self.added[name].requires_grad_(False)

    @classmethod
    def load(
        cls,
        source: str | Path,
        dtype: torch.dtype = torch.float32,
        revision: str | None = None,
        attention: Attention = Attention.bidirectional,
    ) -> "Backbone":
        """From a Hugging Face id, at a revision, or a folder.

        The attention mask is the configuration's `is_causal`, which transformers honours since 5.2
        for most architectures and every attention implementation, padded or not. Raises `UserError`
        where weights are missing, or where it is not honoured.
        """
        config, causal = config_of(str(source), revision), attention is Attention.causal
        config.is_causal = causal
        settings = {"config": config, "dtype": dtype, "revision": revision}
        model = whole(AutoModelForCausalLM, str(source), **settings)
        no_head = unreadable(config)
        if not isinstance(model.get_output_embeddings(), nn.Linear):
            no_head = (
                f"{source} was saved without its language-model head, which MNTP and "
                "paradigm=sparse read: give the model that has it, or take paradigm=dense with "
                "recipe.adapt.steps=0 and recipe.adapt.centre=null."
            )
        backbone = cls(model, no_head, added_in(Path(source)))
        check_attention(model, backbone.hidden_states, causal=causal)
        return backbone

    def with_lora(self, lora: Lora, seed: int = 0) -> "Backbone":
        """Freeze every weight and add trainable adapters, the same ones for the same `seed`."""
        rank, alpha, targets = lora.rank, lora.alpha, list(lora.targets)
        settings = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=lora.dropout, target_modules=targets, bias="none"
        )
        # Ranks average gradients and nothing else, so that they have to start from equal weights.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self._around(get_peft_model(self.model, settings))

    def with_adapter(self, folder: Path) -> "Backbone":
        """Add an adapter that `save` wrote and go on training it, as the study does after MNTP.

        Raises `UserError` where a weight is missing, or has no place.
        """
        model = PeftModel.from_pretrained(self.model, folder, is_trainable=True)
        asked = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
        if apart := sorted(asked ^ load_peft_weights(str(folder), device="cpu").keys()):
            raise UserError(
                f"{folder} is no whole adapter of its base: {len(apart)} weights are in one of "
                f"them alone ({', '.join(apart[:2])}). Delete it, and it is trained again."
            )
        return Backbone(model, self.no_head, added_in(folder))

    def add(self, name: str, make: Callable[[], Tensor]) -> nn.Parameter:
        """A weight of an encoder's own: as the weights brought it, or new."""
        if name not in self.added:
            device = next(self.model.parameters()).device
            self.added[name] = nn.Parameter(make().to(device), name not in FROZEN)
        found: nn.Parameter = self.added[name]
        return found

    def _around(self, model: PreTrainedModel | PeftModel) -> "Backbone":
        """With the model in another form."""
        return Backbone(model, self.no_head, dict(self.added.items()))

    def save(self, folder: Path) -> None:
        """Write the adapter, or the whole model where there is none, and what was added."""
        self.model.save_pretrained(str(folder))
        if self.added:
            save_file({name: p.detach().cpu() for name, p in self.added.items()}, folder / ADDED)

    def merged(self) -> "Backbone":
        """With adapters folded into the weights. Raises `ValueError` for a sharded decoder."""
        if isinstance(self.decoder, FSDPModule):  # see stages/weights.py
            raise ValueError("a sharded decoder cannot be merged: save it, and load it whole")
        if isinstance(self.model, PeftModel):
            return self._around(self.model.merge_and_unload())
        return self

    @property
    def language_model(self) -> PreTrainedModel:
        """The decoder with its head, below any adapter wrapper."""
        inner = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        assert isinstance(inner, PreTrainedModel)
        return inner

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head."""
        return getattr(self.language_model, self.language_model.base_model_prefix)

    @property
    def vocabulary(self) -> int:
        """Rows of its embeddings."""
        return len(self.embeddings_VD)

    @property
    def bos(self) -> int | None:
        """The token that begins a text, where it has one."""
        token = getattr(self.language_model.config, "bos_token_id", None)
        return None if token is None else int(token)

    @property
    def embeddings_VD(self) -> Tensor:
        """What token ids are looked up in."""
        weight = self.language_model.get_input_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def head_VD(self) -> Tensor:
        """Raises `UserError` where logits are not its product with the last states."""
        if self.no_head:
            raise UserError(self.no_head)
        weight = self.language_model.get_output_embeddings().weight
        assert isinstance(weight, Tensor)
        return weight

    def hidden_states(
        self, ids_BL: Tensor, mask_BL: Tensor, seen_BL: Tensor | None = None
    ) -> Tensor:
        """Last hidden states, [B, L, D], after the final norm; rows of padding are arbitrary.

        `seen_BL`: which real tokens other tokens see; None: all.
        """
        # Positions count real tokens, so that left and right padding give the same states.
        position_BL = (mask_BL.cumsum(dim=1) - 1).clamp(min=0)
        mask_BL = mask_BL if seen_BL is None else seen_BL
        return self.decoder(
            input_ids=ids_BL, attention_mask=mask_BL, position_ids=position_BL, use_cache=False
        ).last_hidden_state

    def trainable(self) -> dict[str, nn.Parameter]:
        """Named parameters that training changes."""
        own = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return own | {f"added.{name}": p for name, p in self.added.items()}


def added_in(folder: Path) -> dict[str, Tensor]:
    """What `save` wrote besides the decoder's weights, if anything."""
    path = folder / ADDED
    return load_file(path) if path.is_file() else {}
