"""Recipe and site as parameters of a Prefect deployment, whose forms show the fields in the order of their source."""

from typing import Annotated

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from flows.config.recipe import Recipe
from flows.config.site import Site


class _FieldOrder:
    """Adds a `position` to each property of a JSON schema: the server's database does not keep their order."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        _add_positions(schema, handler)
        return schema


def _add_positions(schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> None:
    schema = handler.resolve_ref_schema(schema)
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position
        _add_positions(field, handler)
    for choice in [*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]:
        _add_positions(choice, handler)
    if isinstance(schema.get("items"), dict):
        _add_positions(schema["items"], handler)


FIELD_ORDER = _FieldOrder()

SiteForm = Annotated[Site, FIELD_ORDER]

RecipeForm = Annotated[Recipe, FIELD_ORDER]
