#!/usr/bin/env python3
"""Validates the OpenAPI and AsyncAPI documents with the schemas of their specifications.

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


def references(value):
    """All values of `$ref` in a document."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = value.values()
    if isinstance(value, (type({}.values()), list)):
        for inner in value:
            yield from references(inner)


for document in (openapi, asyncapi):
    for reference in references(document):
        target = document
        for token in reference.removeprefix("#/").split("/"):
            target = target[token.replace("~1", "/")]
