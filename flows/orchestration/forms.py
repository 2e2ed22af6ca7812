"""Recipe and site as the forms of a Prefect deployment."""

from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from flows.config.recipe import Recipe
from flows.config.site import Site


class _FieldOrder:
    """Fields of a form in the order of their source: the server's database forgets the order that JSON has."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        _number(schema, handler)
        return schema


def _number(schema: dict[str, Any], handler: GetJsonSchemaHandler) -> None:
    schema = handler.resolve_ref_schema(schema)
    for position, field in enumerate(schema.get("properties", {}).values()):
        field["position"] = position
        _number(field, handler)
    for choice in [*schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]:
        _number(choice, handler)
    if isinstance(schema.get("items"), dict):
        _number(schema["items"], handler)


FIELD_ORDER = _FieldOrder()


SiteForm = Annotated[Site, FIELD_ORDER]


RecipeForm = Annotated[Recipe, FIELD_ORDER]
