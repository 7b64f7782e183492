import numpy as np
import pytest
import tensorflow as tf

from branchline.components.branch_trainer.loop.dispatch import dispatcher


@pytest.mark.parametrize("num_fns", [1, 2, 3, 9])
def test_each_number_runs_its_own_function_and_no_other(num_fns):
    counts = [tf.Variable(0) for _ in range(num_fns)]
    factors = [tf.constant(float(10 * i)) for i in range(num_fns)]
    extra = tf.Variable(0)  # functions may use different numbers of variables

    def make(i):
        def step():
            if i % 2:
                extra.assign_add(1)
            return counts[i].assign_add(1).read_value(), factors[i] * 2.0

        return step

    dispatch = dispatcher([make(i) for i in range(num_fns)])

    @tf.function(autograph=False)
    def run(numbers):
        results = tf.TensorArray(tf.float32, tf.size(numbers))

        def body(i, results):
            count, product = dispatch(numbers[i])
            return i + 1, results.write(i, tf.cast(count, tf.float32) + product)

        return tf.while_loop(lambda i, _: i < tf.size(numbers), body, (0, results))[1].stack()

    numbers = [0, num_fns - 1, num_fns // 2, 0]
    expected, seen = [], [0] * num_fns
    for i in numbers:
        seen[i] += 1
        expected.append(seen[i] + 20.0 * i)
    np.testing.assert_array_equal(run(tf.constant(numbers)), expected)
    assert [int(c) for c in counts] == seen
    assert int(extra) == sum(n for i, n in enumerate(seen) if i % 2)


def test_a_step_does_not_walk_the_operations_of_other_functions():
    """The loop's own graph has a single operation for all of them."""

    def operations(num_fns):
        variables = [tf.Variable(0.0) for _ in range(num_fns)]
        dispatch = dispatcher([lambda v=v: (v.assign_add(1.0).read_value(),) for v in variables])
        graph = tf.function(lambda i: dispatch(i)).get_concrete_function(
            tf.TensorSpec([], tf.int32)
        )
        cases = [op for op in graph.graph.get_operations() if op.type == "Case"]
        assert not any(op.node_def.attr["_lower_using_switch_merge"].b for op in cases)
        return len(graph.graph.get_operations()), [len(op.inputs) for op in cases]

    assert operations(40) == operations(4)


def test_functions_that_do_the_same_with_other_variables_become_one():
    variables = [tf.Variable(float(i)) for i in range(12)]
    factors = [2.0, 3.0, 2.0] * 4

    def make(v, factor, name):
        def step():
            with tf.name_scope(name):
                return (v.assign_add(factor).read_value(),)

        return step

    made = [make(v, factors[i], f"scope_{i}") for i, v in enumerate(variables)]
    dispatch = dispatcher(made)
    run = tf.function(lambda i: dispatch(i), autograph=False)
    for i in range(12):
        np.testing.assert_array_equal(run(tf.constant(i)), [i + factors[i]])
    np.testing.assert_array_equal(variables, [i + factors[i] for i in range(12)])
    graph = run.get_concrete_function(tf.TensorSpec([], tf.int32)).graph
    (case,) = [op for op in graph.get_operations() if op.type == "Case"]
    assert len(case.get_attr("branches")) == 2  # one by each factor
