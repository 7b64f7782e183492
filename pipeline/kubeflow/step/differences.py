"""Cures every difference between what open-source KFP v2 gives a step and what TFX expects.

Each function changes what goes into TFX's container entrypoint (the ExecutorInput), what comes out
of it (the ExecutorOutput), both as decoded JSON, or the directories that these name. TFX itself
stays as it is installed.

Sources: https://github.com/tensorflow/tfx/tree/master/tfx/orchestration (kubeflow/v2/container and
portable/outputs_utils.py); https://github.com/kubeflow/pipelines/tree/master/backend/src/v2, with
the files that each function names. Where there is an issue upstream, the function has its address.
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from branchline.components.files.artifact_paths import to_local
from branchline.schemas import BranchlineError

Json = dict[str, Any]


def drop_unknown_outputs(invocation: Json, outputs_spec: Json) -> None:
    """Leaves out the outputs that the component does not have.

    Where the cluster publishes logs, KFP adds an output `executor-logs` of type `system.Artifact`
    (driver/driver.go provisionOutputs) and takes care of it itself. TFX imports the type of every
    output as a Python class and fails on this one.
    """
    artifacts = invocation.get("outputs", {}).get("artifacts") or {}
    for name in set(artifacts) - set(outputs_spec.get("artifacts", {})):
        del artifacts[name]


def set_artifact_types(invocation: Json, inputs_spec: Json, outputs_spec: Json) -> None:
    """Gives every artifact the type that the pipeline's definition gives it.

    KFP does not know the type of an artifact that comes from another step: its instance schema is
    "" (metadata/client.go GetOutputArtifactsByExecutionId, ToRuntimeArtifact), or there is no type,
    or one of KFP's own such as `system.Model`. TFX takes the title of the schema for the class of
    the artifact and fails: https://github.com/tensorflow/tfx/issues/7768

    Raises:
        BranchlineError: An artifact has no type, and the definition has none for it.
    """
    for side, spec in (("inputs", inputs_spec), ("outputs", outputs_spec)):
        known = spec.get("artifacts", {})
        for name, artifact in _artifacts(invocation, side):
            defined = known.get(name, {}).get("artifactType")
            if defined:
                artifact["type"] = defined
            elif not any((artifact.get("type") or {}).values()):
                raise BranchlineError(
                    f"the {side[:-1]} {name} came without a type, and the pipeline's definition "
                    f"has types for {', '.join(known) or 'none'}: compile the pipeline again"
                )


def drop_null_parameters(invocation: Json) -> None:
    """Leaves out parameters without a value.

    KFP passes null for an optional parameter that is not given. TFX makes 0 of it: the number of
    `NULL_VALUE` (kubeflow_v2_entrypoint_utils.py parse_execution_properties).
    """
    inputs = invocation.get("inputs", {})
    for key in ("parameterValues", "parameters"):
        values = inputs.get(key) or {}
        for name in [name for name, value in values.items() if value is None]:
            del values[name]


def unwrap_metadata(invocation: Json) -> None:
    """Takes lists and objects out of the wrapping in which KFP kept them.

    KFP writes them to its metadata store as {"list": …} and {"struct": …} (metadata/converter.go
    StructValueToMLMDValue) and does not undo it (toRuntimeArtifact), so that a component would read
    another value than the one that was written.
    """
    for _, artifact in _artifacts(invocation, "inputs"):
        metadata = artifact.get("metadata") or {}
        for name, value in metadata.items():
            if isinstance(value, dict) and len(value) == 1:
                [(kind, inner)] = value.items()
                if isinstance(inner, {"list": list, "struct": dict}.get(kind, ())):
                    metadata[name] = inner


def use_local_paths(invocation: Json, volume: str | None = None) -> dict[str, str]:
    """Puts in place of each artifact's URI the path at which KFP's launcher has its files.

    The launcher copies inputs to that path before the step starts and uploads outputs from there
    after it (component/launcher_v2.go retrieveArtifactPath); the URI it passes is the remote one.
    TFX reads and writes at the URI, for which TensorFlow has no file system (s3://, minio://), or
    one that leaves empty objects for directories, on which the next step's download fails:
    https://github.com/kubeflow/pipelines/issues/13476

    Args:
        invocation: The ExecutorInput.
        volume: A directory on a mounted volume, to be used in place of the launcher's paths.

    Returns:
        Local path → URI.
    """
    uris = {}
    for side in ("inputs", "outputs"):
        for _, artifact in _artifacts(invocation, side):
            uri = artifact.get("uri", "")
            local = artifact.pop("customPath", None) or to_local(uri, volume)
            if local != uri:
                uris[local] = uri
                artifact["uri"] = local
    return uris


def restore_input_directories(invocation: Json) -> None:
    """Makes the directories of inputs that were lost in the store, because they were empty.

    A store has files only. Of a directory without any, KFP uploads nothing and downloads nothing;
    where something else left an empty object "<directory>/" for it, KFP makes an empty file of that
    (objectstore/object_store.go UploadBlob, DownloadBlob,
    https://github.com/kubeflow/pipelines/issues/13476). Components that list it would fail.
    """
    for artifact in _typed(invocation, "inputs"):
        path = Path(artifact.uri)
        if "://" in artifact.uri or _is_file_by_type(artifact):
            continue
        if path.is_file() and path.stat().st_size == 0:
            path.unlink()
        if not path.exists():
            path.mkdir(parents=True)


def make_output_directories(invocation: Json) -> None:
    """Makes the directories of outputs, empty, as TFX's own launcher does before an executor runs.

    KFP makes their parents only (component/launcher_v2.go prepareOutputFolders), and a step that is
    tried again gets the same URIs: on a volume, what the failed attempt wrote is still there.
    """
    from tfx.orchestration.portable import outputs_utils

    outputs = [a for a in _typed(invocation, "outputs") if "://" not in a.uri]
    for artifact in outputs:
        path = Path(artifact.uri)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    outputs_utils.make_output_dirs({"outputs": outputs})


def restore_uris(output: Json, uris: Mapping[str, str]) -> None:
    """Puts the URIs back, as URI and within metadata.

    KFP takes over an output's URI as the step gives it back (component/launcher_v2.go
    mergeRuntimeArtifacts) and fails if it is not one of the store (objectstore/config.go
    KeyFromURI). A local path in metadata, such as that of the model in a blessing, names nothing
    in another container.

    Args:
        output: The ExecutorOutput.
        uris: What `use_local_paths` gave back.
    """
    if not uris:
        return
    known = "|".join(re.escape(path) for path in sorted(uris, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.:/-])({known})(?![\w.-])")
    for artifact in _lists_of(output.get("artifacts")):
        artifact["uri"] = pattern.sub(lambda match: uris[match[1]], artifact.get("uri", ""))
        artifact["metadata"] = _replace(artifact.get("metadata") or {}, pattern, uris)


def restore_names(output: Json, invocation: Json) -> None:
    """Puts the names of artifacts in place of the numbers that TFX made of them.

    TFX hashes an artifact's name to the number `artifact.id`. In a blessing that number would be
    rounded to a float and name nothing; TFX puts the name back for its own Evaluator only
    (kubeflow_v2_run_executor.py). The name is what Vertex AI's resolver of the latest blessed model
    looks for, and in open-source KFP it is the artifact's id in the metadata store.
    """
    names: dict[int, str] = {}
    _typed(invocation, "inputs", names)
    by_rounded = {float(number): name for number, name in names.items()}
    for artifact in _lists_of(output.get("artifacts")):
        metadata = artifact.get("metadata") or {}
        for key, value in metadata.items():
            if key.endswith("_id") and isinstance(value, (int, float)):
                metadata[key] = by_rounded.get(float(value), value)


def delete_output_markers(invocation: Json) -> None:
    """Deletes the empty objects "<directory>/" that TensorFlow leaves in the store for outputs.

    KFP makes a file of each when it copies the artifact for the next step, and then cannot make the
    directory of that name: https://github.com/kubeflow/pipelines/issues/13476
    """
    from branchline.components.files.objects import delete_markers

    for _, artifact in _artifacts(invocation, "outputs"):
        delete_markers(artifact["uri"])


def _artifacts(invocation: Json, side: str) -> Iterator[tuple[str, Json]]:
    for name, listed in ((invocation.get(side) or {}).get("artifacts") or {}).items():
        for artifact in (listed or {}).get("artifacts") or []:
            yield name, artifact


def _lists_of(artifacts: Mapping[str, Json] | None) -> Iterator[Json]:
    for listed in (artifacts or {}).values():
        yield from (listed or {}).get("artifacts") or []


def _typed(invocation: Json, side: str, names: dict[int, str] | None = None) -> list[Any]:
    """The artifacts as TFX will see them; fills `names` with id → name."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils

    message: Any = pipeline_spec_pb2.ExecutorInput()
    json_format.ParseDict(invocation, message, ignore_unknown_fields=True)
    found = kubeflow_v2_entrypoint_utils.parse_raw_artifact_dict(
        getattr(message, side).artifacts, names
    )
    return [artifact for artifacts in found.values() for artifact in artifacts]


def _is_file_by_type(artifact: Any) -> bool:
    from tfx.types.experimental.simple_artifacts import File
    from tfx.types.value_artifact import ValueArtifact

    return isinstance(artifact, (File, ValueArtifact))


def _replace(value: Any, pattern: re.Pattern[str], uris: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda match: uris[match[1]], value)
    if isinstance(value, list):
        return [_replace(each, pattern, uris) for each in value]
    if isinstance(value, dict):
        return {key: _replace(each, pattern, uris) for key, each in value.items()}
    return value
