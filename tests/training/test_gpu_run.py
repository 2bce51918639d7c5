"""A whole run whose emulator computes on a GPU."""

import shutil

import pytest
import torch

from ipu_train.training import checkpoint

from .test_training_run import final_weights, lines, recipe, run  # noqa: F401  (recipe is a fixture)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_run_on_a_gpu_is_that_of_the_cpu_and_can_be_resumed(recipe, tmp_path, norm, monkeypatch):  # noqa: F811
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    proxy = f"model.proxy_norm={str(norm == 'group').lower()}"
    groups = "model.norm_groups=null" if norm == "batch" else "model.norm_groups=4"
    fixed = [f"model.norm={norm}", proxy, groups]
    run(recipe, tmp_path / "cpu", *fixed)
    run(recipe, tmp_path / "gpu", *fixed, "device.compute=cuda")
    expected = [m["loss"] for m in lines(tmp_path / "cpu")]
    assert [m["loss"] for m in lines(tmp_path / "gpu")] == pytest.approx(expected, abs=1e-3)
    whole = final_weights(tmp_path / "gpu")
    shutil.rmtree(checkpoint.newest(tmp_path / "gpu" / "checkpoints"))  # as after the first epoch
    run(recipe, tmp_path / "gpu", *fixed, "device.compute=cuda", resume=True)
    for name, value in final_weights(tmp_path / "gpu").items():
        torch.testing.assert_close(value, whole[name], rtol=0, atol=1e-4, msg=name)
