"""Bodies of rest-xml: whatever botocore's serializer writes is read, whole, and written alike; whatever else could be read otherwise is refused."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from botocore.model import ServiceModel
from botocore.serialize import RestXMLSerializer

from ostiary.model.operations import Action
from ostiary.protocols.aws.arns import touched
from ostiary.protocols.aws.models import Service, Unreadable
from tests.aws.account import WATCH, Account
from tests.aws.test_aws_bounds import HERE, access
from tests.aws.test_aws_forms import keys_of_maps, leaves, model, sample
from tests.aws.wire import ask

XML = ["s3", "s3control", "route53", "cloudfront"]


def in_body(ours: Service, name: str) -> bool:
    """Whether parameters of the operation stand in a document."""
    if "input" not in ours.operations[name]:
        return False
    shape = ours.input_of(name)
    if payload := shape.get("payload"):
        return bool(ours.shape(shape["members"][payload]["shape"])["type"] == "structure")
    return any("location" not in member for member in shape["members"].values())


@pytest.mark.parametrize("service", XML)
def test_whatever_an_sdk_writes_is_read_whole_and_written_alike(service: str) -> None:
    shapes, ours = ServiceModel(model(service), service), Service(service, model(service))
    tried = 0
    for name in filter(lambda each: in_body(ours, each), shapes.operation_names):
        operation = shapes.operation_model(name)
        body = RestXMLSerializer().serialize_to_request(sample(operation.input_shape), operation)["body"]
        read = ours.call(name, "rest-xml", body=body).parameters
        payload = ours.input_of(name).get("payload")
        inner = read[payload] if payload else read
        assert leaves(inner) + keys_of_maps(inner) == len(found(body)), name
        written = ours.document(name).write(inner)
        assert ours.call(name, "rest-xml", body=written).parameters == read, name
        assert found(written) == found(body), name
        tried += 1
    assert tried > 10 or service == "s3control"


def found(body: bytes) -> list[tuple[str, str]]:
    """Every value of a document by where it stands, as another reader finds them."""

    def walk(element: ET.Element, place: str) -> Iterator[tuple[str, str]]:
        yield from ((f"{place}@{name}", value) for name, value in element.attrib.items())
        if not len(element) and element.text:
            yield place, element.text
        for each in element:
            yield from walk(each, f"{place}/{each.tag}")

    root = ET.fromstring(body)
    return sorted(walk(root, root.tag))


ACL = b"<AccessControlPolicy xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>%b</AccessControlPolicy>"
OWNER = b"<Owner><ID>x</ID></Owner>"
STRANGE = [
    ACL % (OWNER + OWNER), ACL % (OWNER + b"<!-- x -->"), ACL % b"<Owner><ID><![CDATA[x]]></ID></Owner>", ACL % b"<Owner>x<ID>x</ID></Owner>",
    ACL % b"<Owner a='b'><ID>x</ID></Owner>", ACL % b"<owner><ID>x</ID></owner>", ACL % b"<Owner><ID><b>x</b></ID></Owner>", ACL % b"<x:Owner><ID>x</ID></x:Owner>",
    ACL.replace(b"2006", b"2007") % OWNER, b"<Other>" + OWNER + b"</Other>", b"<!DOCTYPE a [<!ENTITY e 'x'>]>" + ACL % b"<Owner><ID>&e;</ID></Owner>",
    b"<?xml version='1.0' encoding='latin-1'?>" + ACL % OWNER, (ACL % OWNER).decode().encode("utf-16"), ACL % OWNER + b"x", b"{}", ACL % (b"<Owner>" * 80 + b"</Owner>" * 80),
    ACL % b"<AccessControlList><Grant><Grantee xmlns:xsi='http://evil' xsi:type='Group'><URI>u</URI></Grantee></Grant></AccessControlList>",
    ACL % b"<AccessControlList><Grants/></AccessControlList>", ACL % b"<AccessControlList>x</AccessControlList>",
]  # fmt: skip


@pytest.mark.parametrize("body", STRANGE)
def test_a_document_that_others_could_read_otherwise_is_no_call(shared: Account, heard: list[str], body: bytes) -> None:
    with pytest.raises(Unreadable):
        Service("s3", model("s3")).call("PutBucketAcl", "rest-xml", body=body)
    before = len(shared.records("deny"))
    assert ask(shared, "PUT", "/plain-bucket?acl", host="s3.us-east-1.amazonaws.com", body=body).status in (400, 403)
    assert len(shared.records("deny")) == before + 1
    assert heard == []


def judged(service: str, operation: str, protocol: str, body: bytes) -> set[tuple[str, Action]]:
    call = Service(service, model(service)).call(operation, protocol, body=body)
    action = access().action(access().prefix(service), operation)
    assert action is not None
    return set(touched(call, action, access(), HERE, body)[0])


def test_a_role_that_is_passed_on_in_a_document_is_judged_as_administering_it() -> None:
    job = b"""<CreateJobRequest xmlns="http://awss3control.amazonaws.com/doc/2018-08-20/"><Priority>1</Priority>
        <RoleArn>arn:aws:iam::123456789012:role/admin</RoleArn></CreateJobRequest>"""
    assert ("arn:aws:iam::123456789012:role/admin", Action.ADMINISTER) in judged("s3control", "CreateJob", "rest-xml", job)
    channel = b'{"FunctionDefinitionVersion": {}, "x": 1}'
    with pytest.raises(Unreadable):
        judged("pinpoint", "CreateExportJob", "rest-json", channel)
    export = b'{"RoleArn": "arn:aws:iam::123456789012:role/admin", "S3UrlPrefix": "s3://b/k"}'
    assert ("arn:aws:iam::123456789012:role/admin", Action.ADMINISTER) in judged("pinpoint", "CreateExportJob", "rest-json", export)
    settings = b'{"CampaignHook": {"LambdaFunctionName": "arn:aws:iam::123456789012:role/deep"}}'
    assert ("arn:aws:iam::123456789012:role/deep", Action.ADMINISTER) in judged("pinpoint", "UpdateApplicationSettings", "rest-json", settings)


RECORDS = b"""<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes><Change>
<Action>%b</Action><ResourceRecordSet><Name>a.example.com</Name><Type>A</Type></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"""
TAKEN_AWAY: list[tuple[str, str, str, bytes, bool]] = [
    ("route53", "ChangeResourceRecordSets", "rest-xml", RECORDS % b"DELETE", True), ("route53", "ChangeResourceRecordSets", "rest-xml", RECORDS % b"UPSERT", False),
    ("cloudfront-keyvaluestore", "UpdateKeys", "rest-json", b'{"Deletes": [{"Key": "k"}]}', True),
    ("cloudfront-keyvaluestore", "UpdateKeys", "rest-json", b'{"Puts": [{"Key": "k", "Value": "v"}], "Deletes": []}', False),
    ("codecommit", "CreateCommit", "json", b'{"repositoryName": "r", "branchName": "b", "deleteFiles": [{"filePath": "f"}]}', True),
    ("waf", "UpdateIPSet", "json", b'{"IPSetId": "i", "ChangeToken": "t", "Updates": [{"Action": "DELETE", "IPSetDescriptor": {}}]}', True),
    ("dynamodb", "UpdateTable", "json", b'{"TableName": "t", "GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "i"}}]}', True),
    ("dynamodb", "UpdateItem", "json", b'{"TableName": "t", "Key": {}, "AttributeUpdates": {"a": {"Action": "DELETE"}}}', False),
    ("clouddirectory", "BatchWrite", "rest-json", b'{"Operations": [{"DeleteObject": {"ObjectReference": {}}}]}', True),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "protocol", "body", "deletes"), TAKEN_AWAY)
def test_what_a_call_takes_away_inside_of_its_body_is_judged_as_deleting(service: str, operation: str, protocol: str, body: bytes, deletes: bool) -> None:
    assert (Action.DELETE in {action for _, action in judged(service, operation, protocol, body)}) is deletes


def test_a_document_that_an_sdk_writes_goes_through_as_it_came(shared: Account) -> None:
    s3 = shared.client("s3")
    shared.direct("s3").create_bucket(Bucket="documents")
    WATCH.begin()
    s3.put_bucket_tagging(Bucket="documents", Tagging={"TagSet": [{"Key": "a", "Value": "<&>"}]})
    assert s3.get_bucket_tagging(Bucket="documents")["TagSet"] == [{"Key": "a", "Value": "<&>"}]
    upload = s3.create_multipart_upload(Bucket="documents", Key="k")["UploadId"]
    part = s3.upload_part(Bucket="documents", Key="k", UploadId=upload, PartNumber=1, Body=b"x")["ETag"]
    s3.complete_multipart_upload(Bucket="documents", Key="k", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    assert s3.get_object(Bucket="documents", Key="k")["ContentLength"] == 1
    s3.put_bucket_acl(Bucket="documents", AccessControlPolicy={"Owner": {"ID": "x"}, "Grants": [
        {"Grantee": {"Type": "CanonicalUser", "ID": "x"}, "Permission": "READ"}]})  # fmt: skip
