# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
#
# You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0. Unless required by applicable
# law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language governing
# permissions and limitations under the License.
"""
The versions of transformers that this code was tested with, and the one name in which they differ. No torch.

transformers 5.24 renamed `past_key_values` to `cache`, in arguments, outputs and `generate`. The code of the family
says `cache`; what transformers calls or reads has the name that the installed version uses, `CACHE_NAME`, and either
name is taken. Once versions before 5.24 are out of the range, `CACHE_NAME` is "cache" and `with_installed_name` goes.
"""

import inspect
import warnings
from typing import Any

import transformers
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from transformers.utils import is_torchdynamo_compiling, logging


logger = logging.get_logger(__name__)

TESTED_VERSIONS = ">=5.20,<5.25"
"""The range of transformers in `pyproject.toml`."""

CACHE_NAMES = ("cache", "past_key_values")
CACHE_NAME = CACHE_NAMES[Version(transformers.__version__).release < (5, 24)]
"""The installed transformers' name of the cache, in arguments and outputs."""


def check_version(installed: str) -> None:
    """
    Keeps code that travels with checkpoints from versions of transformers that it does not know.

    Args:
        installed (`str`): Version of transformers; one after the range is warned of.

    Raises:
        ImportError: It is before the range.
    """
    # A development version counts as the release that it becomes.
    release = Version(Version(installed).base_version)
    if release in SpecifierSet(TESTED_VERSIONS):
        return
    remedy = f"pip install 'transformers{TESTED_VERSIONS}'"
    if release < min(Version(specifier.version) for specifier in SpecifierSet(TESTED_VERSIONS)):
        raise ImportError(f"hf_attn models need transformers{TESTED_VERSIONS}, got {installed}. Run `{remedy}`.")
    logger.warning_once(
        f"This code of hf_attn was tested with transformers{TESTED_VERSIONS}, got {installed}, which may compute "
        f"something else. Update hf_attn, and save checkpoints that are loaded by `trust_remote_code` again with it; "
        f"or run `{remedy}`."
    )


check_version(transformers.__version__)


def take_either_name(keywords: dict[str, Any], name: str = "cache") -> None:
    """
    Gives the cache in `keywords` the name `name`, whichever of both it has; an old one is warned of.

    Raises:
        TypeError: There are two caches.
    """
    other = CACHE_NAMES[name == CACHE_NAMES[0]]
    if other not in keywords:
        return
    cache = keywords.pop(other)
    if cache is None:
        return
    if keywords.get(name) is not None:
        raise TypeError("`cache` and `past_key_values` are two names of one argument, got both. Pass one of them.")
    if CACHE_NAME == "cache" and other == "past_key_values" and not is_torchdynamo_compiling():
        # In the words of transformers, and from where its own models say so: what calls `forward`.
        warnings.warn("`past_key_values` is deprecated. Use `cache` instead.", FutureWarning, stacklevel=4)
    keywords[name] = cache


def with_installed_name(signature: inspect.Signature) -> inspect.Signature:
    """`signature`, with the parameter `cache` under the name that the installed transformers looks for."""
    parameters = [
        parameter.replace(name=CACHE_NAME) if parameter.name == "cache" else parameter
        for parameter in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)
