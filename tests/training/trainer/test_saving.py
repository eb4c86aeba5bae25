# Copyright 2026 The hf_attn Authors. Licensed under the Apache License, Version 2.0.
"""Models are saved as they were loaded, and what saving changes comes back."""

import pytest

from tests.training.ragged_training import ours, trainer_for
from tests.training.tiny_training import build_trainer


def test_saved_config_keeps_its_cache(tmp_path, tokenizer, rows):
    trainer = trainer_for(ours(tokenizer), tokenizer, rows, tmp_path)
    assert trainer.model.config.use_cache is False
    trainer.save_model(str(tmp_path))
    assert type(trainer.model.config).from_pretrained(tmp_path).use_cache is True


def test_failed_save_leaves_the_config_as_it_was(tmp_path, monkeypatch):
    trainer = build_trainer(tmp_path)

    def fail(*arguments, **keywords):
        assert trainer.model.config.use_cache is True
        raise KeyError("on purpose")

    monkeypatch.setattr(trainer, "_save", fail)
    with pytest.raises(KeyError, match="on purpose"):
        trainer.save_model()
    assert trainer.model.config.use_cache is False
