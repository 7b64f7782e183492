"""Submits a compiled pipeline to Kubeflow, and waits for the run where that is wanted."""

import sys
import time
import uuid
from argparse import Namespace
from typing import TYPE_CHECKING, TextIO

from branchline.pipeline.kubeflow.submit.credentials import check_file, find_host, token_reader
from branchline.pipeline.kubeflow.submit.follow_run import follow_run, why_failed
from branchline.pipeline.kubeflow.submit.read_pipeline import read_pipeline, type_parameters
from branchline.pipeline.kubeflow.submit.run_values import check_values
from branchline.schemas import BranchlineError, RecipeError

if TYPE_CHECKING:
    from branchline.pipeline.kubeflow.submit.connection import Connection


def submit(options: Namespace, out: TextIO, *, backoff_s: float = 1.0, poll_s: float = 5.0) -> int:
    """Uploads the pipeline unless the server has it, creates a run, and may wait for its end.

    One call creates at most one run, as far as that can be known: the run is marked with a number
    of this submission, and after an answer that is lost or 5xx the server is asked for a run with
    that mark before the request is repeated. It cannot be known of a server that carries out a
    request only after it was asked. An unchanged pipeline is not uploaded again: its version is
    named by a hash of its content.

    Args:
        options: As `add_submit_arguments` reads them.
        out: Gets the run's address in a line of its own, and with `--wait` how the run goes.
            Repetitions of requests are told on standard error.
        backoff_s: Pause before the first repetition of a request; doubles each time.
        poll_s: Seconds between two questions for the state of the run.

    Returns:
        The exit code: 0 submitted, with `--wait` succeeded; 1 the run failed.

    Raises:
        RecipeError: An argument is wrong (exit code 2); nothing was changed on the server.
        BranchlineError: The server refused or cannot be reached, or `--timeout` (exit code 1).
    """
    pipeline = read_pipeline(options.pipeline)
    parameters = type_parameters(options.parameters, pipeline.parameters)
    check_values(parameters, pipeline.documents[0])
    if options.timeout is not None and not options.wait:
        raise RecipeError("--timeout says how long to --wait; give both")
    root = options.pipeline_root
    if root is not None and not root.startswith(("s3://", "gs://", "minio://")):
        raise RecipeError(
            f"--pipeline-root: got {root!r}, expected s3://…, gs://… or minio://…; a volume is "
            "mounted by the steps, so `compile` has to know it"
        )
    compiled_for = pipeline.root_scheme
    if root is not None and compiled_for and not root.startswith(f"{compiled_for}://"):
        raise RecipeError(
            f"--pipeline-root: got {root!r}, but the pipeline was compiled for {compiled_for}://…, "
            "and its steps are not set up to reach another store; compile it for that root"
        )
    if options.no_cache:
        pipeline = pipeline.without_cache()
    name = options.run_name or f"{pipeline.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    connection = _connect(options, backoff_s)
    import kfp_server_api

    from branchline.pipeline.kubeflow.submit import make_run

    scope = make_run.find_namespace(connection, options.namespace)
    experiment = options.experiment or pipeline.name
    experiment_id = make_run.find_or_make_experiment(connection, experiment, scope)
    version = make_run.find_or_upload(connection, pipeline, options.version_name, scope)
    run_id = make_run.make_run(
        connection,
        name=name,
        description=f"submitted by branchline, submission {uuid.uuid4()}",
        experiment_id=experiment_id,
        pipeline_version_reference=version,
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(
            parameters=parameters,
            # KFP's API server does not read the pipeline's `defaultPipelineRoot`, only its UI does.
            pipeline_root=root or pipeline.root or None,
        ),
        service_account=options.service_account,
    )
    address = f"{connection.host}/#/runs/details/{run_id}"
    print(address, file=out, flush=True)
    if not options.wait:
        return 0
    try:
        return _wait(connection, run_id, pipeline.tasks, options.timeout, poll_s, out)
    except BranchlineError as error:
        raise BranchlineError(f"{error}. The run: {address}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"waiting stops, the run goes on: {address}") from None


def _connect(options: Namespace, backoff_s: float) -> "Connection":
    host = find_host(options.host)
    read_token = token_reader(options)
    if options.ca_cert is not None:
        check_file("--ca-cert", options.ca_cert)
    try:
        from branchline.pipeline.kubeflow.submit.connection import Connection
    except ImportError as error:
        raise BranchlineError(
            f"submitting needs kfp ({error}); install branchline with its extra: "
            "branchline[kubeflow]"
        ) from error
    return Connection(
        host,
        read_token=read_token,
        ca_cert=options.ca_cert,
        retries=options.retries,
        backoff_s=backoff_s,
        note=lambda line: print(line, file=sys.stderr, flush=True),
    )


def _wait(
    connection: "Connection",
    run_id: str,
    tasks: list[str],
    timeout_s: float | None,
    poll_s: float,
    out: TextIO,
) -> int:
    import kfp_server_api

    from branchline.pipeline.kubeflow.submit.connection import call

    service = kfp_server_api.RunServiceApi(connection)

    def say(line: str) -> None:
        print(line, file=out, flush=True)

    run = follow_run(
        lambda: call(service, "get_run", run_id),
        tasks=tasks,
        say=say,
        timeout_s=timeout_s,
        poll_s=poll_s,
    )
    say(f"{run.display_name}: {run.state.lower()}")
    for line in why_failed(run, tasks) if run.state == "FAILED" else ():
        say(f"  {line}")
    return 0 if run.state == "SUCCEEDED" else 1
