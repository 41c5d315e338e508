// Calls of the AWS SDK for JavaScript, as it makes them by default; what came of each, one line of JSON. ENDPOINT, PREFIX and keys are in the environment.
import { createHash } from "node:crypto";
import { S3, paginateListObjectsV2 } from "@aws-sdk/client-s3";
import { DynamoDB } from "@aws-sdk/client-dynamodb";
import { STS } from "@aws-sdk/client-sts";
import { IAM } from "@aws-sdk/client-iam";
import { EC2 } from "@aws-sdk/client-ec2";
import { Lambda } from "@aws-sdk/client-lambda";
import { SQS } from "@aws-sdk/client-sqs";
import { CloudWatchLogs } from "@aws-sdk/client-cloudwatch-logs";
import { SecretsManager } from "@aws-sdk/client-secrets-manager";
import { CloudWatch } from "@aws-sdk/client-cloudwatch";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";
import { GetObjectCommand } from "@aws-sdk/client-s3";
import { Readable } from "node:stream";

const at = { region: "us-east-1", endpoint: process.env.ENDPOINT };
const p = process.env.PREFIX;
const s3 = new S3({ ...at, forcePathStyle: true });
const [dynamodb, sts, iam, ec2, lambda, sqs, logs, secrets, cloudwatch] =
  [DynamoDB, STS, IAM, EC2, Lambda, SQS, CloudWatchLogs, SecretsManager, CloudWatch].map((Client) => new Client(at));
const sum = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function step(name, call) {
  let line;
  try {
    line = { name, result: await call() };
  } catch (error) {
    line = { name, error: error.name, message: error.message };
  }
  console.log(JSON.stringify(line));
}
const bytes = async (got) => sum(await got.Body.transformToByteArray());
const large = Buffer.alloc(6 << 20, "0123456789abcdef");
async function* pieces() {
  for (let at = 0; at < large.length; at += 100_000) yield large.subarray(at, at + 100_000);
}

// S3: checksums and streaming trailers as by default.
const Bucket = `${p}-js`;
await step("s3 CreateBucket", async () => (await s3.createBucket({ Bucket })).$metadata.httpStatusCode);
await step("s3 PutObject text", async () => (await s3.putObject({ Bucket, Key: "a b/ü+c.txt", Body: "hello", Metadata: { who: "me" } })).ETag);
await step("s3 PutObject stream", async () =>
  (await s3.putObject({ Bucket, Key: "stream", Body: Readable.from(pieces()), ContentLength: large.length })).ChecksumCRC32);
for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256"])
  await step(`s3 PutObject ${ChecksumAlgorithm}`, async () => (await s3.putObject({ Bucket, Key: ChecksumAlgorithm, Body: "hello", ChecksumAlgorithm })).ETag);
await step("s3 GetObject", async () => bytes(await s3.getObject({ Bucket, Key: "a b/ü+c.txt" })));
await step("s3 GetObject stream", async () => bytes(await s3.getObject({ Bucket, Key: "stream" })));
await step("s3 HeadObject", async () => (await s3.headObject({ Bucket, Key: "a b/ü+c.txt" })).Metadata);
await step("s3 ListObjectsV2", async () => (await s3.listObjectsV2({ Bucket })).Contents.map((each) => [each.Key, each.Size]));
await step("s3 pages", async () => {
  const found = [];
  for await (const page of paginateListObjectsV2({ client: s3, pageSize: 2 }, { Bucket })) found.push(...page.Contents.map((each) => each.Key));
  return found;
});
await step("s3 CopyObject", async () => (await s3.copyObject({ Bucket, Key: "copy", CopySource: `${Bucket}/SHA1` })).CopyObjectResult.ETag);
await step("s3 Upload in parts", async () => (await new Upload({ client: s3, params: { Bucket, Key: "parts", Body: Readable.from(pieces()) } }).done()).Key);
await step("s3 GetObject parts", async () => bytes(await s3.getObject({ Bucket, Key: "parts" })));
await step("s3 PutBucketTagging", async () => (await s3.putBucketTagging({ Bucket, Tagging: { TagSet: [{ Key: "a", Value: "b" }] } })).$metadata.httpStatusCode < 300);
await step("s3 GetBucketTagging", async () => (await s3.getBucketTagging({ Bucket })).TagSet);
await step("s3 presigned", async () => {
  const url = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: "SHA1" }), { expiresIn: 60 });
  const got = await fetch(url);
  return [got.status, await got.text()];
});
await step("s3 DeleteObjects", async () => (await s3.deleteObjects({ Bucket, Delete: { Objects: [{ Key: "SHA1" }, { Key: "SHA256" }] } })).Deleted.map((each) => each.Key).sort());
await step("s3 DeleteObject", async () => (await s3.deleteObject({ Bucket, Key: "copy" })).$metadata.httpStatusCode);
await step("s3 GetObject gone", async () => s3.getObject({ Bucket, Key: "copy" }));

// JSON 1.0
const TableName = `${p}-t`;
await step("dynamodb CreateTable", async () => (await dynamodb.createTable({
  TableName, BillingMode: "PAY_PER_REQUEST", KeySchema: [{ AttributeName: "id", KeyType: "HASH" }], AttributeDefinitions: [{ AttributeName: "id", AttributeType: "S" }],
})).TableDescription.TableName);
await step("dynamodb PutItem", async () => (await dynamodb.putItem({ TableName, Item: { id: { S: "1" }, n: { N: "1.10" }, b: { B: new Uint8Array([1, 2]) } } })).$metadata.httpStatusCode);
await step("dynamodb BatchWriteItem", async () => (await dynamodb.batchWriteItem({ RequestItems: { [TableName]: [{ PutRequest: { Item: { id: { S: "2" } } } }, { PutRequest: { Item: { id: { S: "3" } } } }] } })).UnprocessedItems);
await step("dynamodb GetItem", async () => (await dynamodb.getItem({ TableName, Key: { id: { S: "1" } } })).Item.n);
await step("dynamodb Query", async () => (await dynamodb.query({ TableName, KeyConditionExpression: "id = :i", ExpressionAttributeValues: { ":i": { S: "2" } } })).Items);
await step("dynamodb UpdateItem", async () => (await dynamodb.updateItem({ TableName, Key: { id: { S: "1" } }, UpdateExpression: "SET n = n + :o", ExpressionAttributeValues: { ":o": { N: "1" } }, ReturnValues: "UPDATED_NEW" })).Attributes);
await step("dynamodb TransactWriteItems", async () => (await dynamodb.transactWriteItems({ TransactItems: [{ Put: { TableName, Item: { id: { S: "4" } } } }, { Delete: { TableName, Key: { id: { S: "3" } } } }] })).$metadata.httpStatusCode);
await step("dynamodb Scan", async () => (await dynamodb.scan({ TableName })).Items.map((each) => each.id.S).sort());
await step("dynamodb failed condition", async () => dynamodb.putItem({ TableName, Item: { id: { S: "1" } }, ConditionExpression: "attribute_not_exists(id)" }));
await step("dynamodb DeleteTable", async () => (await dynamodb.deleteTable({ TableName })).TableDescription.TableName);

// query, ec2, JSON 1.1, REST-JSON
await step("sts GetCallerIdentity", async () => (await sts.getCallerIdentity({})).Account);
await step("iam CreateRole", async () => (await iam.createRole({ RoleName: `${p}-r`, AssumeRolePolicyDocument: JSON.stringify({ Version: "2012-10-17", Statement: [] }) })).Role.Arn);
await step("iam CreateUser", async () => (await iam.createUser({ UserName: `${p}-u`, Tags: [{ Key: "a", Value: "ü &=+" }] })).User.UserName);
await step("iam ListUserTags", async () => (await iam.listUserTags({ UserName: `${p}-u` })).Tags);
await step("iam GetUser missing", async () => iam.getUser({ UserName: "nobody" }));
await step("iam DeleteUser", async () => (await iam.deleteUser({ UserName: `${p}-u` })).$metadata.httpStatusCode);
let VpcId;
await step("ec2 CreateVpc", async () => {
  VpcId = (await ec2.createVpc({ CidrBlock: "10.9.0.0/16", TagSpecifications: [{ ResourceType: "vpc", Tags: [{ Key: "a", Value: "b" }] }] })).Vpc.VpcId;
  return VpcId.startsWith("vpc-");
});
await step("ec2 DescribeVpcs", async () => (await ec2.describeVpcs({ VpcIds: [VpcId], Filters: [{ Name: "tag:a", Values: ["b"] }] })).Vpcs.map((each) => each.CidrBlock));
await step("ec2 DeleteVpc", async () => (await ec2.deleteVpc({ VpcId })).$metadata.httpStatusCode);
await step("ec2 DescribeVpcs missing", async () => ec2.describeVpcs({ VpcIds: ["vpc-00000000"] }));
await step("lambda ListFunctions", async () => (await lambda.listFunctions({ MaxItems: 10 })).Functions.length);
await step("lambda GetFunction missing", async () => lambda.getFunction({ FunctionName: `${p}-none` }));
let QueueUrl;
await step("sqs CreateQueue", async () => {
  ({ QueueUrl } = await sqs.createQueue({ QueueName: `${p}-q`, tags: { a: "b" } }));
  return QueueUrl.split("/").pop();
});
await step("sqs SendMessage", async () => (await sqs.sendMessage({ QueueUrl, MessageBody: "work" })).MD5OfMessageBody);
await step("sqs SendMessageBatch", async () => (await sqs.sendMessageBatch({ QueueUrl, Entries: [{ Id: "1", MessageBody: "a" }] })).Successful.length);
await step("sqs ReceiveMessage", async () => (await sqs.receiveMessage({ QueueUrl, MaxNumberOfMessages: 2 })).Messages.map((each) => each.Body).sort());
await step("sqs GetQueueUrl missing", async () => sqs.getQueueUrl({ QueueName: `${p}-none` }));
await step("sqs DeleteQueue", async () => (await sqs.deleteQueue({ QueueUrl })).$metadata.httpStatusCode);
await step("logs CreateLogGroup", async () => (await logs.createLogGroup({ logGroupName: `/${p}` })).$metadata.httpStatusCode);
await step("logs CreateLogStream", async () => (await logs.createLogStream({ logGroupName: `/${p}`, logStreamName: "s" })).$metadata.httpStatusCode);
const timestamp = Date.now();
await step("logs PutLogEvents", async () => (await logs.putLogEvents({ logGroupName: `/${p}`, logStreamName: "s", logEvents: [{ timestamp, message: "line" }] })).$metadata.httpStatusCode);
await step("logs GetLogEvents", async () => (await logs.getLogEvents({ logGroupName: `/${p}`, logStreamName: "s" })).events.map((each) => each.message));
await step("logs FilterLogEvents", async () => (await logs.filterLogEvents({ logGroupName: `/${p}` })).events.map((each) => each.message));
await step("logs DeleteLogGroup", async () => (await logs.deleteLogGroup({ logGroupName: `/${p}` })).$metadata.httpStatusCode);
await step("secrets CreateSecret", async () => (await secrets.createSecret({ Name: `${p}-s`, SecretString: "swordfish" })).Name);
await step("secrets GetSecretValue", async () => (await secrets.getSecretValue({ SecretId: `${p}-s` })).SecretString);
await step("secrets DeleteSecret", async () => (await secrets.deleteSecret({ SecretId: `${p}-s`, ForceDeleteWithoutRecovery: true })).Name);
// CBOR, where the SDK speaks it
await step("cloudwatch PutMetricData", async () => (await cloudwatch.putMetricData({ Namespace: p, MetricData: [{ MetricName: "m", Value: 1.5 }] })).$metadata.httpStatusCode);
await step("cloudwatch ListMetrics", async () => (await cloudwatch.listMetrics({ Namespace: p })).Metrics.map((each) => each.MetricName));
