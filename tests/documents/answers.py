#!/usr/bin/env python3
"""Checks recorded answers against the OpenAPI document.

Arguments: the address of a server, and a file of lines `{"operation": "get /path/{of}/it", "status": …, "body": …}`.
"""

import json
import sys
import urllib.request

import jsonschema

openapi = json.load(urllib.request.urlopen(sys.argv[1] + "/openapi.json"))
errors, checked = [], 0
for line in open(sys.argv[2]):
    line = json.loads(line)
    method, path = line["operation"].split(" ")
    answer = openapi["paths"][path][method.lower()]["responses"][str(line["status"])]
    schema = answer["content"]["application/json"]["schema"] | {"components": openapi["components"]}
    found = list(jsonschema.Draft202012Validator(schema).iter_errors(line["body"]))
    errors += [f"{line['operation']}: {error.message}" for error in found]
    checked += 1

print("\n".join(errors))
sys.exit(bool(errors) or not checked)
