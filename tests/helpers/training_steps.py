"""Steps of one stream, without a trainer around them."""

from branchline.components.branch_trainer.step.step import Step, objective_of


def step_of(model, name, settings, *, jit_compile=False, **options):
    """The step on a path, or on mixed batches under any other name."""
    return Step(objective_of(model, name, settings, **options), jit_compile=jit_compile)
