"""Transformers' Trainer, as it is installed, on a model of two parameters that trains."""

import json
from importlib.util import find_spec

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
for name in ("accelerate", "transformers"):
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)

from transformers import Trainer, TrainingArguments  # noqa: E402

import agclip  # noqa: E402
from agclip.integrations.torch import installed  # noqa: E402
from agclip.integrations.transformers import ClipGradients  # noqa: E402

GRAD = (3.0, 4.0)


class Net(torch.nn.Module):
    """A model whose gradients are (3, 4) times what the data says."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(2))

    def forward(self, factor):
        return {"loss": factor.mean() * (self.w * torch.tensor(GRAD)).sum()}


def trainer_of(tmp_path, factors, *, rule=None, **options):
    options = {"max_grad_norm": 0 if rule else 1.0, "num_train_epochs": 1} | options
    net = Net()
    args = TrainingArguments(
        output_dir=str(tmp_path),
        use_cpu=True,
        per_device_train_batch_size=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        save_strategy=options.pop("save_strategy", "no"),
        learning_rate=1.0,
        lr_scheduler_type="constant",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        **options,
    )
    return Trainer(
        model=net,
        args=args,
        train_dataset=[{"factor": factor} for factor in factors],
        optimizers=(torch.optim.SGD(net.parameters(), lr=1.0), None),
        callbacks=[ClipGradients(rule)] if rule else None,
    )


def logged(trainer):
    return [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]


def callback(trainer):
    (found,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, ClipGradients))
    return found


@pytest.fixture(autouse=True)
def _quiet(capsys):
    """Keep from the terminal what the trainer prints at each step."""
    yield
    capsys.readouterr()


# --- the trainer's own clipping, with agclip's functions in place ------------------------------


def test_the_trainer_clips_where_its_own_norm_is_infinite(tmp_path):
    trainer = trainer_of(tmp_path, [1e30])
    trainer.train()
    assert trainer.model.w.tolist() == [0.0, 0.0]
    trainer = trainer_of(tmp_path, [1e30, 1e30])
    with installed():
        trainer.train()
    assert trainer.model.w.tolist() == pytest.approx([-1.2, -1.6])
    assert logged(trainer) == pytest.approx([5e30, 5e30])


def test_the_norm_that_is_logged_without_clipping_is_right_too(tmp_path):
    trainer = trainer_of(tmp_path, [1e30], max_grad_norm=0)
    with installed():
        trainer.train()
    assert logged(trainer) == pytest.approx([5e30])


# --- a rule ------------------------------------------------------------------------------------


def test_a_rule_clips_each_step_and_the_norm_before_it_is_logged(tmp_path):
    trainer = trainer_of(tmp_path, [2.0, 2.0], rule=agclip.ClipByGlobalNorm(1.0))
    trainer.train()
    assert trainer.model.w.tolist() == pytest.approx([-1.2, -1.6])
    assert logged(trainer) == pytest.approx([10.0, 10.0])


def test_gradients_are_accumulated_before_they_are_clipped(tmp_path):
    trainer = trainer_of(
        tmp_path,
        [2.0, 2.0],
        rule=agclip.ClipByGlobalNorm(1.0),
        gradient_accumulation_steps=2,
    )
    trainer.train()
    assert trainer.model.w.tolist() == pytest.approx([-0.6, -0.8])
    assert callback(trainer).clipper.step == 1


def test_gradients_are_unscaled_before_they_are_clipped(tmp_path):
    trainer = trainer_of(tmp_path, [2.0, 2.0], rule=agclip.ClipByGlobalNorm(1.0))
    accelerator = trainer.accelerator
    # float16 needs a device of its own kind; the scaler does not.
    accelerator.state._mixed_precision = "fp16"
    accelerator.native_amp = True
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trainer.train()
    assert trainer.model.w.tolist() == pytest.approx([-1.2, -1.6])
    assert logged(trainer) == pytest.approx([10.0, 10.0])


def test_paths_are_the_names_of_parameters(tmp_path):
    rule = agclip.PerGroup({"w": agclip.ClipByNorm(2.0), "*": None})
    trainer = trainer_of(tmp_path, [1.0], rule=rule)
    trainer.train()
    assert trainer.model.w.tolist() == pytest.approx([-1.2, -1.6])


FACTORS = [1.0, 1.5, 1.0, 40.0]
RULE = agclip.ZClip(warmup=2, max_norm=None)


def test_a_run_that_is_resumed_ends_where_one_that_was_not_does(tmp_path):
    whole = trainer_of(tmp_path / "whole", FACTORS, rule=RULE, num_train_epochs=2)
    whole.train()
    first = trainer_of(tmp_path / "a", FACTORS, rule=RULE, save_strategy="epoch")
    first.train()
    second = trainer_of(tmp_path / "a", FACTORS, rule=RULE, num_train_epochs=2)
    second.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-4"))
    ends = [callback(trainer).clipper.state_dict() for trainer in (whole, second)]
    assert ends[0]["step"] == 8
    # The order of the data is another in the second epoch, but the same in both runs.
    assert ends[1] == ends[0]
    assert second.model.w.tolist() == whole.model.w.tolist()


def test_a_checkpoint_without_a_state_lets_the_rule_begin_anew_and_saves_it(tmp_path):
    trainer_of(tmp_path, FACTORS, save_strategy="epoch").train()
    trainer = trainer_of(tmp_path, FACTORS, rule=RULE, save_strategy="epoch", num_train_epochs=2)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert callback(trainer).clipper.step == 4
    saved = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    state = saved["stateful_callbacks"]["ClipGradients"]["attributes"]["clipper"]
    assert state == callback(trainer).clipper.state_dict()


def test_a_second_training_begins_anew(tmp_path):
    trainer = trainer_of(tmp_path, FACTORS, rule=RULE)
    trainer.train()
    trainer.train()
    assert callback(trainer).clipper.step == 4
