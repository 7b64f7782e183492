"""Reads a Dockerfile and a .dockerignore, and builds without a container engine.

Every stage gets a directory as its root; absolute paths in COPY, ENV, WORKDIR and RUN are taken to
lie in there, and RUN's commands are run by `sh`, with the tools of this machine: its uv for the uv
image, the Python that runs the tests for the base image. A cache mount is uv's own cache, and
because that lies on the same disk, files are linked and not copied. What remains textual: USER
(commands run as whoever runs the tests), the base images themselves, CMD and LABEL.

Heredocs, ADD, ONBUILD, SHELL and wildcards in COPY are not understood.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# What this process was started with that a fresh container would not have.
_OURS = ("PYTHON", "VIRTUAL_ENV", "UV_PROJECT", "UV_PYTHON", "LD_", "TF_")


@dataclass
class Instruction:
    """`name` in capitals, its `--key=…` flags, and the rest with continued lines joined."""

    name: str
    flags: list[str]
    value: str

    def flag(self, key):
        return next((f.split("=", 1)[1] for f in self.flags if f.startswith(f"--{key}=")), None)


@dataclass
class Stage:
    root: Path
    variables: dict[str, str] = field(default_factory=dict)  # ENV and ARG
    workdir: str = "/"
    user: str = "root"
    said: list[str] = field(default_factory=list)  # what each RUN printed


def parse(text):
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            flags = []
            while match := re.match(r"\s*(--[a-z]+=\S+)\s*", rest):
                flags.append(match[1])
                rest = rest[match.end() :]
            found.append(Instruction(name.upper(), flags, re.sub(r"\s+", " ", rest).strip()))
    return found


def assignments(instruction, variables):
    """name → value of an ENV, ARG or LABEL, with ${…} of `variables` filled in."""
    pairs = re.findall(r'([\w.]+)=("[^"]*"|\S*)', instruction.value)
    return {name: expand(value.strip('"'), variables) for name, value in pairs}


def expand(text, variables):
    return re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], text)


def images(instructions, arguments):
    """The images that are not stages, of every FROM."""
    known, stages, found = {}, set(), []
    for each in instructions:
        if each.name == "ARG" and not stages:
            known |= assignments(each, known) | arguments
        if each.name == "FROM":
            ref, _, stage = expand(each.value, known).partition(" AS ")
            found += [] if ref in stages else [ref]
            stages.add(stage)
    return found


def admitted(paths, ignore):
    """Those of the relative `paths` that .dockerignore's text lets into the build context."""
    rules = [line for line in ignore.splitlines() if line.strip() and not line.startswith("#")]
    rules = [(line.startswith("!"), _as_regex(line.lstrip("!"))) for line in rules]

    def is_in(path):
        parents = [path, *map(str, Path(path).parents)][:-1]
        verdict = True
        for admits, rule in rules:
            if any(rule.fullmatch(each) for each in parents):
                verdict = admits
        return verdict

    return {path for path in paths if is_in(path)}


def _as_regex(pattern):
    tokens = {"**/": "(.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern.strip("/"))
    return re.compile("".join(tokens.get(part, re.escape(part)) for part in parts))


def build(instructions, context, folder, uv, arguments=None, until=None):
    """Runs all instructions of a Dockerfile, or those up to the stage `until`.

    Args:
        instructions: From `parse`.
        context: Directory that holds what .dockerignore admits, and nothing else.
        folder: Empty directory for the stages.
        uv: The uv binary of this machine.
        arguments: Build arguments, name → value.
        until: Name of the last stage to build.

    Returns:
        Name of a stage → Stage.
    """
    arguments = arguments or {}
    known, stages, stage = {}, {}, None
    for each in instructions:
        if each.name == "FROM":
            if until in stages:
                break
            ref, _, name = expand(each.value, known).partition(" AS ")
            stage = stages[name] = _start(ref, folder / name, stages, uv)
        elif stage is None:
            known |= assignments(each, known) | arguments
        else:
            _DO[each.name](each, stage, stages, context, arguments)
    return stages


def run_again(instruction, stage):
    """Runs one RUN in a stage that is built."""
    _run(instruction, stage, {}, None, {})


def _start(ref, root, stages, uv):
    if ref in stages:
        parent = stages[ref]
        _link(parent.root, root)
        return Stage(root, dict(parent.variables), parent.workdir, parent.user)
    (root / "tmp").mkdir(parents=True)
    if "/uv:" in ref:
        (root / "uv").symlink_to(uv)
    path = f"{root}/usr/local/bin:{sys.base_prefix}/bin:/usr/bin:/bin"
    return Stage(root, {"PATH": path})


def _env(each, stage, _stages, _context, _arguments):
    inside = Instruction("ENV", [], _inside(each.value, stage.root))
    stage.variables |= assignments(inside, stage.variables)


def _arg(each, stage, _stages, _context, arguments):
    stage.variables |= assignments(each, stage.variables)
    stage.variables |= {k: v for k, v in arguments.items() if each.value.startswith(f"{k}=")}


def _workdir(each, stage, _stages, _context, _arguments):
    stage.workdir = each.value
    (stage.root / each.value.lstrip("/")).mkdir(parents=True, exist_ok=True)


def _user(each, stage, _stages, _context, _arguments):
    stage.user = each.value


def _copy(each, stage, stages, context, _arguments):
    *sources, to = expand(each.value, stage.variables).split()
    origin = stages[each.flag("from")].root if each.flag("from") else context
    goal = stage.root / stage.workdir.lstrip("/") / to if to[0] != "/" else stage.root / to[1:]
    for source in sources:
        path = origin / source.lstrip("/")
        assert path.exists() or path.is_symlink(), f"COPY {each.value}: no {source} in {origin}"
        if path.is_dir():
            _link(path, goal)
        else:
            inside = to.endswith("/") or len(sources) > 1 or goal.is_dir()
            target = goal / path.name if inside else goal
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)


def _run(each, stage, stages, _context, _arguments):
    mounts = {}
    for flag in each.flags:
        mount = dict(part.split("=", 1) for part in flag.removeprefix("--mount=").split(","))
        if mount["type"] == "bind":
            mounts[stage.root / mount["target"].lstrip("/")] = stages[mount["from"]].root
    for target, source in mounts.items():
        target.symlink_to(source)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    try:
        done = subprocess.run(
            ["sh", "-c", _inside(each.value, stage.root)],
            cwd=stage.root / stage.workdir.lstrip("/"),
            env=environment | stage.variables | {"UV_LINK_MODE": "hardlink"},
            capture_output=True,
            text=True,
        )
    finally:
        for target in mounts:
            target.unlink()
    assert done.returncode == 0, f"RUN {each.value}\n{done.stdout}{done.stderr}"
    stage.said.append(done.stdout + done.stderr)


def _inside(text, root):
    """Puts `root` before each absolute path."""
    return re.sub(r"(^|(?<=[\s=\"':]))/(?=[a-z0-9])", f"{root}/", text)


def _link(source, goal):
    goal.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", "-l", f"{source}/.", goal], check=True)


def _nothing(*_):
    pass


_DO = {"ENV": _env, "ARG": _arg, "WORKDIR": _workdir, "USER": _user, "COPY": _copy, "RUN": _run}
_DO |= {"CMD": _nothing, "LABEL": _nothing}
