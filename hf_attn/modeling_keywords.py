# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""No `forward` of the family ignores a keyword: one that nobody declares is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import Any

from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import TransformersKwargs

from .configuration_mechanisms import nearest
from .modeling_versions import take_either_name, with_installed_name


# Those of every model; those that the decorators of `forward` read or, as `use_cache`, hand on to every stack; and
# what `generate` hands to every step.
TRANSFORMERS_KEYWORDS = frozenset(
    {
        *TransformersKwargs.__annotations__,
        *("return_dict", "use_cache", "debug_io", "debug_io_dir", "prune_layers"),
        *("tokenizer", "assistant_tokenizer"),
    }
)
# Those that a layer hands to its mixer and its cross-attention, each of which declares the ones that it uses.
LAYER_KEYWORDS = frozenset({"cache", "positions", "rotations", "pooled_context"})
# What an attention gives to a backend itself.
_GIVEN_TO_BACKENDS = frozenset(
    {"module", "query", "key", "value", "attention_mask", "scaling", "dropout", "position_bias", "cache"}
)


def declares_keywords(handed_on: Iterable[str] = ()) -> Callable[[Callable], Callable]:
    """
    Decorates a `forward` that takes `**kwargs`: keywords that nobody declares are refused.

    Declared are its own parameters, those of the attention backend, and those of the installed transformers. The
    parameter `cache` is taken under both names that transformers has had for it, and stands in the signature under
    the one that the installed version looks for.

    Args:
        handed_on: Further keywords that a caller hands to all alike; those that `forward` has no parameter for are
            kept from it.

    Raises:
        TypeError: By the decorated function: a keyword is unknown; the message names it and the nearest known one.
    """
    others = frozenset(handed_on)

    def decorate(forward: Callable) -> Callable:
        signature = inspect.signature(forward)
        parameters = _names(signature) - {"self"}
        declared = parameters | others | TRANSFORMERS_KEYWORDS
        unused = others - parameters
        shown = with_installed_name(signature)

        @wraps(forward)
        def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
            if "cache" in declared:
                take_either_name(kwargs)
            for name in kwargs:
                if name not in declared and name not in backend_keywords(self):
                    names = declared | backend_keywords(self) | _names(shown)
                    raise TypeError(
                        f"{type(self).__name__}.forward has no argument `{name}`{nearest(name, names)}. Leave it out: "
                        "it would have no effect."
                    )
            return forward(self, *args, **{name: kwargs[name] for name in kwargs if name not in unused})

        checked.__signature__ = shown  # type: ignore[attr-defined]
        return checked

    return decorate


def backend_keywords(module: Any) -> frozenset[str]:
    """Keywords of the attention backend of a module, or of all backends where the module has no config."""
    config = getattr(module, "config", None)
    names = list(ALL_ATTENTION_FUNCTIONS) if config is None else [config._attn_implementation]
    # Eager attention is each family's own.
    backends = [ALL_ATTENTION_FUNCTIONS[name] for name in names if name in ALL_ATTENTION_FUNCTIONS]
    return frozenset().union(*map(_parameters, backends)) - _GIVEN_TO_BACKENDS


@lru_cache
def _parameters(function: Callable) -> frozenset[str]:
    return frozenset(_names(inspect.signature(function)))


def _names(signature: inspect.Signature) -> set[str]:
    """The parameters that can be named."""
    parameters = signature.parameters.items()
    return {name for name, parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
