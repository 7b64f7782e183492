import keras
import pytest

from branchline.components.branch_trainer.step.optimizers import WarmupDecay, rate_now


@pytest.mark.parametrize("decay", ["constant", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 7])
def test_the_rate_that_is_told_is_the_one_that_is_used(warmup, decay):
    optimizer = keras.optimizers.SGD(WarmupDecay(0.003, warmup, decay, 40))
    optimizer.build([])
    for update in range(60):
        optimizer.iterations.assign(update)
        used = float(optimizer.learning_rate)
        assert rate_now(optimizer) == pytest.approx(used, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("rate", [0.25, keras.optimizers.schedules.ExponentialDecay(0.25, 10, 0.5)])
def test_a_rate_of_keras_is_told(rate):
    assert rate_now(keras.optimizers.SGD(rate)) == 0.25
