"""Forms: whatever botocore's serializers write is read, whole; whatever else could stand for the same place is refused."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.serialize import EC2Serializer, QuerySerializer

from ostiary.protocols.aws.models import Service, Unreadable, read_form
from tests.aws.account import Account
from tests.aws.wire import ask

FORMS = ["autoscaling", "cloudformation", "cloudwatch", "ec2", "elasticbeanstalk", "elb", "elbv2", "iam", "rds", "redshift", "ses", "sns", "sts"]
VALUES: dict[str, Any] = {
    "integer": 7, "long": 8, "float": 1.5, "double": 2.5, "boolean": True, "blob": b"x", "timestamp": "2026-01-01T00:00:00Z",
}  # fmt: skip


@cache
def model(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Loader().load_service_model(name, "service-2")
    return found


def sample(shape: Shape, depth: int = 0) -> Any:
    """A value in which every member is there, two of each list and map, down to where shapes go round."""
    match shape.type_name:
        case "structure":
            return {name: sample(member, depth + 1) for name, member in shape.members.items()} if depth < 7 else {}
        case "list":
            return [sample(shape.member, depth + 1) for _ in range(2)] if depth < 7 else []
        case "map":
            return {f"k{n}": sample(shape.value, depth + 1) for n in range(2)}
        case kind:
            return VALUES.get(kind, "text")


@pytest.mark.parametrize("service", FORMS)
def test_whatever_an_sdk_writes_is_read_whole_and_written_alike(service: str) -> None:
    """Every operation, with every member: none is refused, none is dropped, and the gateway's own form of it is the SDK's."""
    shapes, ours = ServiceModel(model(service), service), Service(service, model(service))
    is_ec2 = service == "ec2"
    serializer = (EC2Serializer if is_ec2 else QuerySerializer)()
    for name in shapes.operation_names:
        operation = shapes.operation_model(name)
        given = {} if operation.input_shape is None else sample(operation.input_shape)
        form = {key: str(value) for key, value in serializer.serialize_to_request(given, operation)["body"].items()}
        read = ours.call(name, "ec2" if is_ec2 else "query", form=form).parameters
        assert leaves(read) == len([value for key, value in form.items() if key not in ("Action", "Version") and value]) - keys_of_maps(read), name
        written = ours.form_of(name, read, ec2=is_ec2)
        assert ours.call(name, "ec2" if is_ec2 else "query", form=written).parameters == read, name
        assert {key: value for key, value in written.items() if value} == {key: value for key, value in form.items() if value}, name


def leaves(given: Any) -> int:
    if isinstance(given, dict):
        return sum(map(leaves, given.values()))
    return sum(map(leaves, given)) if isinstance(given, list) else int(given != "")


def keys_of_maps(given: Any) -> int:
    if isinstance(given, dict):
        return sum(key.startswith("k") and key[1:].isdigit() for key in given) + sum(map(keys_of_maps, given.values()))
    return sum(map(keys_of_maps, given)) if isinstance(given, list) else 0


STOP = "Action=TerminateInstances&Version=2016-11-15&"
TWO_WAYS = [
    STOP + "InstanceId.1=i-prod&InstanceId=i-dev", STOP + "InstanceId=i-dev&InstanceId.1=i-prod", STOP + "InstanceId=i-dev",
    STOP + "InstanceId.1=i-dev&InstanceId.000002=i-prod", STOP + "InstanceId.1=i-dev&InstanceId.2.x=i-prod", STOP + "InstanceId.1=i-dev&InstanceId.01=i-prod",
    STOP + "InstanceId.1=i-dev&InstanceId.1.1=i-prod", STOP + "InstanceId.1.1=i-prod&InstanceId.1=i-dev", STOP + "InstanceId.0=i-prod",
    STOP + "InstanceId.1=i-dev&InstanceId.member.2=i-prod", STOP + "InstanceId.1=i-dev&InstanceId.=i-prod", STOP + "InstanceId..1=i-prod",
    STOP + "InstanceId.1=i-dev&instanceId.2=i-prod", STOP + "InstanceId.1=i-dev&InstanceId.2[]=i-prod", STOP + "InstanceId.1=i-dev&InstanceId.-2=i-prod",
    STOP + "InstanceId.1=i-dev&DryRun.1=true", STOP + "InstanceId.1=i-dev&InstanceId.100000=i-prod",
    "Action=RequestSpotInstances&Version=2016-11-15&LaunchSpecification.ImageId=a&LaunchSpecification=b",
    "Action=RequestSpotInstances&Version=2016-11-15&LaunchSpecification.NoSuchThing=a",
]  # fmt: skip


@pytest.mark.parametrize("body", TWO_WAYS)
def test_a_place_that_is_written_in_another_way_is_no_call(body: str) -> None:
    form = read_form(body.encode())
    with pytest.raises(Unreadable):
        Service("ec2", model("ec2")).call(form["Action"], "ec2", form=form)


@pytest.mark.parametrize("body", [*TWO_WAYS, STOP + "InstanceId.1=i-1"])
def test_and_is_refused_on_record(shared: Account, heard: list[str], body: str) -> None:
    before = len(shared.records("deny"))
    head = [["Content-Type", "application/x-www-form-urlencoded"]]
    assert ask(shared, "POST", "/", host="ec2.us-east-1.amazonaws.com", headers=head, body=body.encode()).status in (400, 403)
    assert len(shared.records("deny")) == before + 1
    assert heard == []


def test_every_thing_in_a_list_is_judged() -> None:
    form = read_form((STOP + "InstanceId.2=i-b&InstanceId.1=i-a&InstanceId.10=i-c").encode())
    assert Service("ec2", model("ec2")).call("TerminateInstances", "ec2", form=form).parameters == {"InstanceIds": ["i-a", "i-b", "i-c"]}
