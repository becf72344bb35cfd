#!/usr/bin/env python3
"""Whether documents are what they say they are: OpenAPI by its official schema, AsyncAPI by its own.

Arguments: the address of a server. asyncapi-3.0.0.json is the specification's schema (Apache-2.0, from
github.com/asyncapi/spec-json-schemas, 6.11.1) without its descriptions and examples.
"""

import json
import pathlib
import sys
import urllib.request

import jsonschema
import openapi_spec_validator


def fetch(path):
    with urllib.request.urlopen(sys.argv[1] + path) as answer:
        assert answer.headers["content-type"] == "application/json", path
        return json.load(answer)


openapi = fetch("/openapi.json")
assert openapi["openapi"] == "3.1.0"
openapi_spec_validator.validate(openapi, cls=openapi_spec_validator.OpenAPIV31SpecValidator)

asyncapi = fetch("/asyncapi.json")
assert asyncapi["asyncapi"] == "3.0.0"
official = json.loads(pathlib.Path(__file__).with_name("asyncapi-3.0.0.json").read_text())
jsonschema.Draft7Validator(official).validate(asyncapi)


def referred(value):
    """Every reference of a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = value.values()
    if isinstance(value, (type({}.values()), list)):
        for inner in value:
            yield from referred(inner)


for document in (openapi, asyncapi):
    for reference in referred(document):
        found = document
        for token in reference.removeprefix("#/").split("/"):
            found = found[token.replace("~1", "/")]
