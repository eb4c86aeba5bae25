# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Pushes a run to the Hub: into a repository of its own, all files or none, with errors that say how to go on.

It speaks to whatever `HF_ENDPOINT` names. What stays on this machine are checkpoints, and files with arguments of the
command line: these may hold paths and a token.
"""

import fnmatch
import json
import shlex
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn, cast

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging
from transformers.utils.hub import PushInProgress
from typing_extensions import override

from ...loading.json_files import read_json_object
from ..run_directory import RUN_FILE
from .checkpoints import LOSSES_FILE, MANIFEST_FILE, write_text_whole


logger = logging.get_logger(__name__)

REPOSITORY_FILE = "hub.json"
"""The file of an output directory that says which repository belongs to the run."""

NOT_PUSHED = ("_*", "checkpoint-*", "runs/*", RUN_FILE, REPOSITORY_FILE, "trainer_state.json", "*training_args.bin")
"""Files of an output directory that stay on this machine: patterns that `hf upload --exclude` takes."""

_STATE_OF_TRAINING = (
    *("optimizer*", "scheduler*", "rng_state*", "scaler*", "trainer_state.json", "README.md"),
    *(LOSSES_FILE, MANIFEST_FILE),
)
# What a new repository holds.
_HOUSEKEEPING = frozenset([".gitattributes", ".gitignore", "README.md"])


def claim_repository(
    name: str, output_dir: str | Path, *, token: str | None = None, private: bool | None = None
) -> str:
    """
    The full name of a repository for a run: a new one, the one that belongs to the run, or an empty one.

    Args:
        name: `user/name`, or a name in the user's own space.
        output_dir: Directory of the run; nothing is written there.
        token: Of the Hub; by default the one of `HF_TOKEN` or of `hf auth login`.
        private: Whether a new repository is private; by default what the user's organisation says.

    Returns:
        `user/name`.

    Raises:
        ValueError: The Hub rejects the token, or there is none; the name is no valid one, or is taken by somebody
            else or by a repository with files that are not of this run; or the record of the run is damaged.
        ConnectionError: The Hub does not answer.
    """
    api = HfApi(token=token)
    file = Path(output_dir) / REPOSITORY_FILE
    record = read_json_object(file, "`output_dir`: the record") if file.is_file() else None
    try:
        repository = _created_or_existing(api, name, private)
        is_own = record == _identity(api, repository)
        foreign = [] if is_own else sorted(set(api.list_repo_files(repository)) - _HOUSEKEEPING)
    # The client of the Hub, the network and a proxy have errors of many kinds.
    except Exception as error:
        _refuse(name, error, api.endpoint)
    if foreign:
        raise ValueError(
            f"`hub_model_id` must be new or empty, got {repository!r}, which is taken: it holds "
            f"{', '.join(foreign[:5])}{' and more' if len(foreign) > 5 else ''}, not of this run. Choose another name "
            "or delete that repository; to replace its files all the same, train without `push_to_hub` and upload the "
            "result by `hf upload`."
        )
    return repository


def _created_or_existing(api: HfApi, name: str, private: bool | None) -> str:
    """Full name of the repository, with the user's own space where `name` has none."""
    try:
        return api.create_repo(name, private=private).repo_id
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        url = error.response.json().get("url") if "/" not in name else None
        return "/".join(url.rstrip("/").split("/")[-2:]) if url else name


def _identity(api: HfApi, repository: str) -> dict[str, str]:
    return {"endpoint": api.endpoint, "repository": repository}


def _refuse(name: str, error: Exception, endpoint: str) -> NoReturn:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status == 401 or isinstance(error, LocalTokenNotFoundError):
        raise ValueError(
            "`hub_token` must be a token that the Hub accepts, with the right to write; it rejects this one, or there "
            f"is none: {_reason(error)}. Make one in the settings of the Hub, then `hf auth login`, or set `HF_TOKEN`."
        ) from error
    if status in (403, 404):
        raise ValueError(
            f"`hub_model_id` must be a name that the token may write to, got {name!r}, which is forbidden or taken by "
            f"somebody else: {_reason(error)}. Choose a name in a space of your own, or a token with the right to "
            "write."
        ) from error
    if isinstance(error, HFValidationError) or status == 400:
        raise ValueError(f"`hub_model_id` must be `user/name`, got {name!r}: {_reason(error)}.") from error
    raise ConnectionError(
        f"`push_to_hub` needs the Hub, and {endpoint} does not answer as it should: {_reason(error)}. Nothing was "
        "trained or written. Try again, or train without `push_to_hub` and upload the result later by `hf upload`."
    ) from error


def _reason(error: BaseException) -> str:
    """The first line of an error's message, that of the server where it sent one."""
    message = getattr(error, "server_message", None) or str(error) or type(error).__name__
    return message.strip().splitlines()[0].rstrip(".")


def push_directory(
    output_dir: str | Path,
    repository: str,
    *,
    token: str | None = None,
    revision: str | None = None,
    message: str = "End of training",
) -> str:
    """
    Pushes an output directory, without `NOT_PUSHED`, in one commit: the repository gets all files or none.

    Args:
        output_dir: Directory of a run; it is not changed.
        repository: `user/name`, which exists.
        token: Of the Hub; by default the one of `HF_TOKEN` or of `hf auth login`.
        revision: Branch, which exists; `main` by default.
        message: First line of the commit.

    Returns:
        Address of the repository.

    Raises:
        ValueError: There is nothing to push.
        RuntimeError: The push failed; the message has the command that pushes again.
    """
    operations = additions(output_dir, NOT_PUSHED)
    if not operations:
        kind = "no directory" if not Path(output_dir).is_dir() else "one without any but those that stay here"
        raise ValueError(f"`output_dir` must be a directory with files to push, got {str(output_dir)!r}, {kind}")
    api = HfApi(token=token)
    try:
        api.create_commit(repository, operations, commit_message=message, revision=revision)
    # Of the network and the server anything may come: what matters is that the result is safe, and how to go on.
    except Exception as error:
        raise RuntimeError(
            f"The push to {repository!r} failed: {_reason(error)}. The result lies whole in {str(output_dir)!r}. To "
            f"push it again:\n\n    {upload_command(output_dir, repository, revision)}\n"
        ) from error
    return f"{api.endpoint}/{repository}"


def upload_command(output_dir: str | Path, repository: str, revision: str | None = None) -> str:
    """The command line that pushes what `push_directory` pushes."""
    command = ["hf", "upload", repository, str(output_dir), "."]
    command += [f"--exclude={pattern}" for pattern in NOT_PUSHED]
    return shlex.join(command if revision is None else [*command, f"--revision={revision}"])


def additions(folder: str | Path, excluded: Sequence[str], path_in_repo: str = "") -> list[CommitOperationAdd]:
    """
    The files of a folder for a commit.

    Args:
        folder: Read with its folders.
        excluded: Patterns of paths relative to it, as the Hub's own commands read them.
        path_in_repo: Put before these paths.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return [
        CommitOperationAdd(f"{path_in_repo}{path}", Path(folder) / path)
        for path in paths
        if not any(fnmatch.fnmatch(path, pattern) for pattern in excluded)
    ]


class HubTrainer(Seq2SeqTrainer):
    """
    A trainer whose pushes cannot harm a run; for the arguments `push_to_hub` and `hub_*` as `Trainer` has them.

    - A repository with files of another run is refused before anything is written.
    - Saving does not push: `push_run` does, once the output directory is complete, model card included.
    - Pushes during the training, by `hub_strategy`, run beside it; one that fails is a line in the log.
    - The token leaves the arguments, which are pickled beside every checkpoint.
    """

    push_in_progress: Any
    _hub_token: str | None = None

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        # Also where nothing is pushed.
        self.args.hub_token = None

    @property
    def repository(self) -> str | None:
        """`user/name` of what is pushed to; `None` where nothing is, and in other processes than the main one."""
        return self.hub_model_id

    @override
    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """`Trainer.init_hf_repo`, which refuses a repository of another run; by default named after the directory."""
        self._hub_token = token or self.args.hub_token
        self.args.hub_token = None
        self.push_in_progress = None
        if not self.is_world_process_zero():
            return
        output_dir = str(self.args.output_dir)
        name = self.args.hub_model_id or Path(output_dir).absolute().name
        private = self.args.hub_private_repo if private is None else private
        self.hub_model_id = claim_repository(  # type: ignore[assignment]
            name, output_dir, token=self._hub_token, private=private
        )
        for config in getattr(self.model, "peft_config", {}).values():
            base = config.base_model_name_or_path
            if base and Path(base).exists():
                logger.warning(
                    f"The adapter's base {base!r} is a directory of this machine: others can load the adapter only "
                    "where they have it. Push the base first and name it in `model_name_or_path`."
                )

    @override
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """`Trainer.save_model` without its push."""
        super().save_model(output_dir, _internal_call=True)

    def push_run(self) -> str:
        """
        Pushes the files of the output directory, as `push_directory` does; for the main process.

        Returns:
            Address of the repository.

        Raises:
            RuntimeError: The push failed; the message has the command that pushes again.
        """
        self._finish_current_push()
        self._record_repository()
        return push_directory(
            str(self.args.output_dir),
            str(self.hub_model_id),
            token=self._hub_token,
            revision=self.args.hub_revision,
        )

    def _record_repository(self) -> None:
        text = json.dumps(_identity(HfApi(), str(self.hub_model_id)), indent=2) + "\n"
        write_text_whole(Path(str(self.args.output_dir)) / REPOSITORY_FILE, text)

    @override
    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """
        `Trainer._push_from_checkpoint`, by `additions`: the weights, and all files where `hub_strategy` says so.

        It runs beside the training, and a push that fails is a line in the log.
        """
        strategy = self.args.hub_strategy
        if not self.is_world_process_zero() or strategy == HubStrategy.END:
            return
        is_pushing = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if is_pushing and not self.args.hub_always_push:
            return
        self._record_repository()
        operations = additions(checkpoint_folder, (*_STATE_OF_TRAINING, "*training_args.bin"))
        if strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            folder = "last-checkpoint" if strategy == HubStrategy.CHECKPOINT else Path(checkpoint_folder).name
            operations += additions(checkpoint_folder, ("*training_args.bin",), f"{folder}/")
        job = HfApi(token=self._hub_token).create_commit(
            str(self.hub_model_id),
            operations,
            commit_message=f"Training in progress, step {self.state.global_step}",
            revision=self.args.hub_revision,
            run_as_future=True,
        )
        job.add_done_callback(_warn_if_failed)
        if is_pushing:
            self.push_in_progress.jobs.append(job)
        else:
            self.push_in_progress = PushInProgress(cast(Any, [job]))


def _warn_if_failed(job: "Future[CommitInfo]") -> None:
    error = job.exception()
    if error is not None:
        logger.warning(f"A push during the training failed, which goes on: {_reason(error)}.")
