"""Finds or makes on the server what a run needs, and the run; needs the extra `kubeflow`."""

import tempfile
from pathlib import Path
from typing import Any

import kfp_server_api

from branchline.pipeline.kubeflow.submit.connection import Connection, call, named
from branchline.pipeline.kubeflow.submit.read_pipeline import CompiledPipeline
from branchline.pipeline.kubeflow.submit.server_errors import Unavailable
from branchline.schemas import BranchlineError, RecipeError

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def find_namespace(connection: Connection, given: str | None) -> dict[str, str]:
    """The namespace as the API's methods take it; nothing where Kubeflow has a single user.

    Raises:
        RecipeError: Kubeflow has several users, and the profile to use is not known.
    """
    health = call(kfp_server_api.HealthzServiceApi(connection), "get_healthz")
    if not given and health.multi_user is True:
        if not _POD_NAMESPACE.is_file():  # kfp, too, takes that of the pod it runs in
            raise RecipeError(
                f"{connection.host} has several users: give --namespace, the profile to run in"
            )
        given = _POD_NAMESPACE.read_text().strip()
    return {"namespace": given} if given else {}


def find_or_make_experiment(connection: Connection, name: str, scope: dict[str, str]) -> str:
    """The id of the experiment called `name`."""
    service = kfp_server_api.ExperimentServiceApi(connection)
    body = kfp_server_api.V2beta1Experiment(display_name=name, **scope)

    def find() -> Any:
        answer = call(service, "list_experiments", filter=named(name), **scope)
        return _called(name, answer.experiments)

    found = find() or connection.make_once(lambda: call(service, "create_experiment", body), find)
    return found.experiment_id


def find_or_upload(
    connection: Connection,
    pipeline: CompiledPipeline,
    version_name: str | None,
    scope: dict[str, str],
) -> Any:
    """A `V2beta1PipelineVersionReference` to this very content; uploads what is not there.

    The version's description is a hash of its content.

    Args:
        connection: To the server.
        pipeline: What to find.
        version_name: None for the pipeline's name and the beginning of the hash.
        scope: As `find_namespace` returns it.

    Raises:
        BranchlineError: The server has other content under `version_name`.
    """
    service = kfp_server_api.PipelineServiceApi(connection)
    uploads = kfp_server_api.PipelineUploadServiceApi(connection)
    body = kfp_server_api.V2beta1Pipeline(display_name=pipeline.name, **scope)
    mark = f"sha256:{pipeline.digest}"
    name = version_name or f"{pipeline.name}-{pipeline.digest[:12]}"

    def find_pipeline() -> Any:
        answer = call(service, "list_pipelines", filter=named(pipeline.name), **scope)
        return _called(pipeline.name, answer.pipelines)

    # Not by `upload_pipeline`: it also makes a version, with the name of the pipeline.
    pipeline_id = (
        find_pipeline()
        or connection.make_once(lambda: call(service, "create_pipeline", body), find_pipeline)
    ).pipeline_id

    def find_version() -> Any:
        answer = call(service, "list_pipeline_versions", pipeline_id, filter=named(name))
        version = _called(name, answer.pipeline_versions)
        if version is not None and version.description != mark:
            raise BranchlineError(
                f"{connection.host} has a version {name} of {pipeline.name} with other content; "
                "give another --version-name, or none"
            )
        return version

    def upload() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pipeline.yaml"  # the server goes by the ending
            path.write_bytes(pipeline.content)
            return uploads.upload_pipeline_version(
                str(path), name=name, pipelineid=pipeline_id, description=mark
            )

    version = find_version() or connection.make_once(upload, find_version)
    return kfp_server_api.V2beta1PipelineVersionReference(
        pipeline_id=pipeline_id, pipeline_version_id=version.pipeline_version_id
    )


def make_run(
    connection: Connection, *, name: str, description: str, experiment_id: str, **fields: Any
) -> str:
    """Creates a run and returns its id.

    Args:
        connection: To the server.
        name: What people call the run.
        description: No other run has it: by it, the run is found again where the answer to its
            creation was lost.
        experiment_id: Where the run belongs.
        fields: Others of `V2beta1Run`.

    Raises:
        Unavailable: It is not known whether the run was created.
        BranchlineError: The server refused.
    """
    service = kfp_server_api.RunServiceApi(connection)
    body = kfp_server_api.V2beta1Run(
        display_name=name, description=description, experiment_id=experiment_id, **fields
    )

    def find() -> Any:
        try:
            answer = call(
                service,
                "list_runs",
                experiment_id=experiment_id,
                filter=named(name),
                sort_by="created_at desc",
                page_size=100,
            )
        except BranchlineError as error:
            raise Unavailable(str(error)) from error  # so whether the run is there is not known
        return next((run for run in answer.runs or () if run.description == description), None)

    try:
        return connection.make_once(lambda: call(service, "create_run", body), find).run_id
    except Unavailable as error:
        raise Unavailable(
            f"{error}. Whether the run was created is not known: look for {name} at "
            f"{connection.host}/#/runs before you submit again"
        ) from error


def _called(name: str, found: list[Any] | None) -> Any:
    return next((one for one in found or () if one.display_name == name), None)
