"""Brings a recipe's schema into the file that ImportSchemaGen reads."""

import hashlib
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from branchline.components.transform.declared_schema import declared_schema
from branchline.schemas import Recipe, RecipeError


def schema_text(recipe: Recipe, recipe_file: Path) -> tuple[str, str]:
    """The recipe's schema, or else the declared one, and a file name that changes with it.

    ImportSchemaGen's cache key holds the name alone.

    Raises:
        RecipeError: The recipe's schema cannot be read.
    """
    if recipe.schema is not None:
        text = _read_schema(recipe_file.parent / recipe.schema)
    else:
        text = text_format.MessageToString(declared_schema(recipe.routing))
    return text, f"schema-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pbtxt"


def write_schema(recipe: Recipe, recipe_file: Path, directory: Path) -> str:
    """Puts `schema_text` into a file of `directory`; returns its path.

    Raises:
        RecipeError: The recipe's schema cannot be read.
    """
    text, name = schema_text(recipe, recipe_file)
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"{name}.part"
    temporary.write_text(text)
    temporary.rename(directory / name)
    return str(directory / name)


def _read_schema(path: Path) -> str:
    try:
        text = path.read_text()
        text_format.Parse(text, schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise RecipeError(
            f"Recipe.schema: {path} cannot be read as a TFDV schema: {error}"
        ) from None
    return text
