"""What an AWS call does, in policy's words: from the access level that AWS itself gives the action, and from its verb.

`List` and `Read` are `read`; `Permissions management` is `administer`. `Write` says too little, so its verb decides: what deletes is
`delete`, what makes something run is `execute`, what puts data is `write`, what moves data elsewhere is `transfer`, and everything else
is `define`. An action whose level AWS does not say is refused.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ostiary.model.operations import Action

MAX_DEPTH: Final = 64
READS: Final = frozenset("lr")
_VERB: Final = re.compile(r"[A-Z]+[a-z0-9]*")
_DELETE: Final = frozenset({"Delete", "Terminate", "Remove", "Purge", "Deregister", "Destroy", "Release", "Discard", "Drop", "Empty", "Forget"})
_EXECUTE: Final = frozenset({
    "Invoke", "Run", "Execute", "Start", "Stop", "Reboot", "Submit", "Restart", "Rerun", "Retry", "Resume", "Trigger", "Send", "Redrive",
    "Pause", "Rebuild", "Failover", "Initiate",
})  # fmt: skip
_WRITE: Final = frozenset({"Put", "Publish", "Write", "Transact", "Upload", "Complete", "Abort", "Append", "Ingest", "Tag", "Untag", "Index", "Receive", "Change"})
_TRANSFER: Final = frozenset({"Export", "Copy", "Share"})

RENAMED: Final = {
    ("s3", "ListObjects"): "ListBucket", ("s3", "ListObjectsV2"): "ListBucket", ("s3", "ListObjectVersions"): "ListBucketVersions",
    ("s3", "ListBuckets"): "ListAllMyBuckets", ("s3", "HeadBucket"): "ListBucket", ("s3", "HeadObject"): "GetObject",
    ("s3", "CopyObject"): "PutObject", ("s3", "CreateMultipartUpload"): "PutObject", ("s3", "UploadPart"): "PutObject",
    ("s3", "UploadPartCopy"): "PutObject", ("s3", "CompleteMultipartUpload"): "PutObject", ("s3", "DeleteObjects"): "DeleteObject",
    ("s3", "ListParts"): "ListMultipartUploadParts", ("s3", "ListMultipartUploads"): "ListBucketMultipartUploads",
    ("s3", "SelectObjectContent"): "GetObject",
    ("s3", "GetBucketLifecycleConfiguration"): "GetLifecycleConfiguration", ("s3", "GetBucketLifecycle"): "GetLifecycleConfiguration",
    ("s3", "PutBucketLifecycleConfiguration"): "PutLifecycleConfiguration", ("s3", "PutBucketLifecycle"): "PutLifecycleConfiguration",
    ("s3", "DeleteBucketLifecycle"): "PutLifecycleConfiguration", ("s3", "GetBucketEncryption"): "GetEncryptionConfiguration",
    ("s3", "PutBucketEncryption"): "PutEncryptionConfiguration", ("s3", "DeleteBucketEncryption"): "PutEncryptionConfiguration",
    ("s3", "DeleteBucketCors"): "PutBucketCORS", ("s3", "DeleteBucketTagging"): "PutBucketTagging",
    ("s3", "DeleteBucketOwnershipControls"): "PutBucketOwnershipControls",
    ("s3", "GetPublicAccessBlock"): "GetBucketPublicAccessBlock", ("s3", "PutPublicAccessBlock"): "PutBucketPublicAccessBlock",
    ("s3", "DeletePublicAccessBlock"): "PutBucketPublicAccessBlock", ("s3", "GetBucketReplication"): "GetReplicationConfiguration",
    ("s3", "PutBucketReplication"): "PutReplicationConfiguration", ("s3", "DeleteBucketReplication"): "PutReplicationConfiguration",
    ("s3", "GetBucketNotificationConfiguration"): "GetBucketNotification",
    ("s3", "PutBucketNotificationConfiguration"): "PutBucketNotification",
    **{("s3", f"{verb}Bucket{kind}Configuration"): f"{'Get' if verb == 'Get' else 'Put'}{kind}Configuration"
       for verb in ("Get", "Put", "Delete") for kind in ("Inventory", "Analytics", "Metrics", "IntelligentTiering")},
    **{("s3", f"ListBucket{kind}Configurations"): f"Get{kind}Configuration" for kind in ("Inventory", "Analytics", "Metrics", "IntelligentTiering")},
    ("s3", "GetObjectLockConfiguration"): "GetBucketObjectLockConfiguration",
    ("s3", "PutObjectLockConfiguration"): "PutBucketObjectLockConfiguration",
    ("s3", "GetBucketAccelerateConfiguration"): "GetAccelerateConfiguration",
    ("s3", "PutBucketAccelerateConfiguration"): "PutAccelerateConfiguration",
    ("lambda", "Invoke"): "InvokeFunction", ("lambda", "InvokeAsync"): "InvokeFunction",
    ("dynamodb", "TransactGetItems"): "GetItem", ("dynamodb", "TransactWriteItems"): "PutItem",
    ("dynamodb", "ExecuteStatement"): "PartiQLUpdate", ("dynamodb", "BatchExecuteStatement"): "PartiQLUpdate",
    ("dynamodb", "ExecuteTransaction"): "PartiQLUpdate",
    ("sqs", "SendMessageBatch"): "SendMessage", ("sqs", "DeleteMessageBatch"): "DeleteMessage",
    ("sqs", "ChangeMessageVisibilityBatch"): "ChangeMessageVisibility", ("sns", "PublishBatch"): "Publish",
    ("iam", "UpdateOpenIDConnectProvider"): "UpdateOpenIDConnectProviderThumbprint",
    ("kms", "ReEncrypt"): "ReEncryptFrom", ("kinesis", "PutRecords"): "PutRecords",
}  # fmt: skip
"""(IAM prefix, operation): the IAM action that it needs, where that has another name."""

SETTLED: Final = {
    ("sqs", "SendMessage"): Action.WRITE, ("sqs", "SendMessageBatch"): Action.WRITE, ("sqs", "ReceiveMessage"): Action.READ,
    ("sqs", "DeleteMessage"): Action.WRITE, ("sqs", "DeleteMessageBatch"): Action.WRITE,
    ("s3", "DeleteObjectTagging"): Action.WRITE, ("s3", "CopyObject"): Action.WRITE, ("s3", "CreateMultipartUpload"): Action.WRITE,
    ("s3", "UploadPartCopy"): Action.WRITE, ("dynamodb", "UpdateItem"): Action.WRITE, ("dynamodb", "BatchWriteItem"): Action.WRITE,
    ("s3", "DeleteBucketCors"): Action.DEFINE, ("s3", "DeleteBucketTagging"): Action.WRITE,
    ("ec2", "RunInstances"): Action.EXECUTE, ("ec2", "RunScheduledInstances"): Action.EXECUTE,
    ("cloudformation", "CreateStack"): Action.EXECUTE, ("cloudformation", "UpdateStack"): Action.EXECUTE,
    ("cloudformation", "ExecuteChangeSet"): Action.EXECUTE, ("logs", "CreateLogStream"): Action.WRITE,
    ("kms", "Decrypt"): Action.READ, ("kms", "Encrypt"): Action.READ, ("kms", "ScheduleKeyDeletion"): Action.DELETE,
    ("ec2-instance-connect", "SendSSHPublicKey"): Action.EXECUTE, ("ec2-instance-connect", "SendSerialConsoleSSHPublicKey"): Action.EXECUTE,
    ("ec2-instance-connect", "OpenTunnel"): Action.EXECUTE, ("sts", "DecodeAuthorizationMessage"): Action.READ,
    ("cloudwatch", "PutMetricAlarm"): Action.DEFINE, ("events", "PutRule"): Action.DEFINE, ("cloudwatch", "PutDashboard"): Action.DEFINE,
    ("ssm", "SendAutomationSignal"): Action.EXECUTE, ("secretsmanager", "CancelRotateSecret"): Action.DEFINE,
    ("cloudtrail", "StopLogging"): Action.ADMINISTER, ("cloudtrail", "DeleteTrail"): Action.ADMINISTER,
    ("bedrock", "InvokeAgent"): Action.EXECUTE, ("bedrock", "InvokeFlow"): Action.EXECUTE, ("bedrock", "InvokeInlineAgent"): Action.EXECUTE,
    ("bedrock-agentcore", "SetTokenVaultCMK"): Action.DEFINE, ("bedrock-agentcore", "CompleteResourceTokenAuth"): Action.ADMINISTER,
    ("config", "DeliverConfigSnapshot"): Action.EXECUTE,
}  # fmt: skip
"""What verb and level would say wrongly."""

ADMINISTERED: Final = frozenset({"iam", "sso", "organizations", "identitystore", "account", "ram", "rolesanywhere", "verifiedpermissions"})
"""Services in which whatever changes something changes who may do what."""

GOVERNS: Final = re.compile(
    r"(?:Batch)?(?:Put|Set|Create|Update|Delete|Add|Remove|Modify|Attach|Detach|Associate|Disassociate|Replace|Accept|Authorize|Revoke|Enable|Disable|"
    r"Register|Deregister|Grant)[A-Za-z0-9]*"
    r"(?:(?:Resource|Access|Cluster|Sink|Destination|Channel|OriginEndpoint|Project|ModelPackageGroup|Contact|Application|InvestigationGroup|Repository|"
    r"Endpoint|AccessGroup|AccessEndpoint|AccessPoint|Permissions?)Polic(?:y|ies)(?:Statement)?|Permissions?(?:Version)?|AccessEntry|"
    r"AccessControl(?:Rule|Entry|Configuration)|Grants?(?:Version)?|Entitlements|(?:Delegated|Organization)?Admin(?:istrator)?(?:Account)?|"
    r"CrossAccount(?:AccessRole|Authorization|Attachment)|VpcEndpointAccess|ResourceAccessForBucket|AggregationAuthorization)"
)
"""How changes of who may do what are called, of which AWS says no more than that they write."""
_GIVES: Final = re.compile(
    r"(?i)(?:resource|repository|access|accesspoint|datasourceaccess|kms|s3|sts)?policy(?:document)?|accesspolicies|acl|"
    r"grant(?:fullcontrol|read|readacp|write|writeacp)|permissions|resetpolicy|bypassgovernanceretention"
)
_GIVES_NOTHING: Final = frozenset({"", "false", "private", "bucket-owner-read", "bucket-owner-full-control"})


def gives_rights(given: dict[str, Any]) -> bool:
    """Whether a call that changes something says in a parameter who may do what: an ACL, a policy, a lock that is passed over."""
    return any(
        _GIVES.fullmatch(name) is not None and (value not in _GIVES_NOTHING if isinstance(value, str) else bool(value))
        for name, value in given.items()
    )


VENDING: Final = frozenset({
    "sts:AssumeRole", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity", "sts:AssumeRoot", "sts:GetSessionToken",
    "sts:GetFederationToken", "sts:GetWebIdentityToken", "sts:GetDelegatedAccessToken", "iam:CreateAccessKey", "iam:CreateLoginProfile",
    "iam:UpdateLoginProfile", "iam:CreateServiceSpecificCredential", "iam:ResetServiceSpecificCredential", "iam:ChangePassword",
    "iam:CreateVirtualMFADevice", "sso:GetRoleCredentials", "cognito-identity:GetCredentialsForIdentity",
    "cognito-identity:GetOpenIdToken", "cognito-identity:GetOpenIdTokenForDeveloperIdentity", "cognito-idp:InitiateAuth",
    "cognito-idp:AdminInitiateAuth", "cognito-idp:RespondToAuthChallenge", "cognito-idp:AdminRespondToAuthChallenge",
    "cognito-idp:GetTokensFromRefreshToken", "ecr:GetAuthorizationToken", "ecr-public:GetAuthorizationToken",
    "codeartifact:GetAuthorizationToken", "redshift:GetClusterCredentials", "redshift:GetClusterCredentialsWithIAM",
    "redshift-serverless:GetCredentials", "lightsail:GetInstanceAccessDetails", "lightsail:DownloadDefaultKeyPair",
    "lightsail:GetRelationalDatabaseMasterUserPassword", "lightsail:CreateContainerServiceRegistryLogin", "lightsail:CreateKeyPair",
    "lightsail:CreateBucketAccessKey", "ec2:CreateKeyPair", "ec2:GetPasswordData", "ssm:StartSession", "ssm:ResumeSession",
    "ssm:GetAccessToken", "ecs:ExecuteCommand", "gamelift:GetComputeAuthToken", "gamelift:RequestUploadCredentials",
    "gamelift:GetInstanceAccess", "gamelift:GetComputeAccess", "s3:CreateSession", "s3:GetDataAccess", "rolesanywhere:CreateSession",
    "signin:CreateOAuth2Token", "sso-oauth:CreateToken", "sso-oauth:CreateTokenWithIAM", "lakeformation:AssumeDecoratedRoleWithSAML",
    "lakeformation:GetTemporaryGlueTableCredentials", "lakeformation:GetTemporaryGluePartitionCredentials",
    "lakeformation:GetTemporaryDataLocationCredentials", "emr-containers:GetManagedEndpointSessionCredentials",
    "elasticmapreduce:GetClusterSessionCredentials", "appsync:CreateApiKey", "iot:CreateKeysAndCertificate",
    "iot:CreateProvisioningClaim", "iot:AssumeRoleWithCertificate", "connect:GetFederationToken", "quicksight:GetDashboardEmbedUrl",
    "quicksight:GenerateEmbedUrlForRegisteredUser", "quicksight:GenerateEmbedUrlForAnonymousUser", "quicksight:GetSessionEmbedUrl",
    "mediastore:GetObject", "datazone:GetEnvironmentCredentials", "chime:CreateAppInstanceUserSession", "kms:GenerateDataKeyPair",
    "grafana:CreateWorkspaceApiKey", "grafana:CreateWorkspaceServiceAccountToken", "airflow:CreateCliToken", "airflow:CreateWebLoginToken",
    "sagemaker:CreatePresignedNotebookInstanceUrl", "sagemaker:CreatePresignedDomainUrl", "sagemaker:CreatePresignedMlflowTrackingServerUrl",
    "codecommit:GetRepositoryCredentials", "codeconnections:GetConnectionToken", "bedrock:CallWithBearerToken", "transfer:CreateUser",
    "codecatalyst:CreateAccessToken", "deadline:AssumeFleetRoleForRead", "deadline:AssumeFleetRoleForWorker",
    "deadline:AssumeQueueRoleForRead", "deadline:AssumeQueueRoleForUser", "deadline:AssumeQueueRoleForWorker",
    "bedrock-agentcore:GetResourceApiKey", "bedrock-agentcore:GetResourceOauth2Token", "bedrock-agentcore:GetWorkloadAccessToken",
    "bedrock-agentcore:GetWorkloadAccessTokenForJWT", "bedrock-agentcore:GetWorkloadAccessTokenForUserId", "dsql:DbConnect",
    "ecr:GetDownloadUrlForLayer", "athena:GetSessionEndpoint", "artifact:GetReport", "artifact:GetTermForReport",
    "amplify:GetArtifactUrl", "amplify:CreateDeployment", "amplify:GenerateAccessLogs", "amplifyuibuilder:ExchangeCodeForToken",
    "amplifyuibuilder:RefreshToken", "connect:StartChatContact", "connect:StartWebRTCContact", "connect:GetPromptFile",
    "connect:GetAttachedFile", "connect:StartAttachedFileUpload", "license-manager:CreateToken", "license-manager:GetAccessToken",
    "gamelift:GetGameSessionLogUrl", "qbusiness:GetDocumentContent", "greengrass:GetComponentVersionArtifact", "lex:CreateUploadUrl",
    "lex:DescribeExport", "lex:GetExport", "lex:DescribeTestSetDiscrepancyReport", "lex:GetTestExecutionArtifactsUrl",
    "auditmanager:GetAssessmentReportUrl", "auditmanager:GetEvidenceFileUploadUrl", "codeguru-security:CreateUploadUrl",
    "cognito-idp:CreateUserImportJob", "cognito-idp:DescribeUserImportJob", "cognito-idp:ListUserImportJobs",
    "cognito-idp:StartUserImportJob", "cognito-idp:StopUserImportJob", "profile:GetUploadJobPath",
    "groundstation:GetAgentTaskResponseUrl", "imagebuilder:GetMarketplaceResource", "iotdeviceadvisor:GetSuiteRunReport",
    "ivs:CreateParticipantToken", "ivs:CreateStage", "ses:CreateAddressListImportJob", "ses:GetAddressListImportJob",
    "ses:GetArchiveMessage", "ses:GetExportJob", "quicksight:DescribeAssetBundleExportJob", "security-ir:GetCaseAttachmentDownloadUrl",
    "security-ir:GetCaseAttachmentUploadUrl", "snowball:DescribeReturnShippingLabel", "snowball:GetJobManifest",
    "snowball:GetSoftwareUpdates", "ssm:GetDeployablePatchSnapshotForInstance", "tax:GetTaxRegistrationDocument",
    "translate:GetParallelData", "translate:GetTerminology", "translate:ImportTerminology",
    "kinesisvideo:GetHLSStreamingSessionURL", "kinesisvideo:GetDASHStreamingSessionURL", "kinesisvideo:GetIceServerConfig",
    "sagemaker:StartSession", "codebuild:StartSandboxConnection", "lightsail:CreateGUISessionAccessDetails", "ivschat:CreateChatToken",
    "connect:CreateParticipant", "datazone:GetIamPortalLoginUrl", "m2:GetSignedBluinsightsUrl", "appstream:CreateStreamingURL",
    "appstream:CreateAppBlockBuilderStreamingURL", "appstream:CreateImageBuilderStreamingURL", "devicefarm:CreateTestGridUrl",
    "qbusiness:CreateAnonymousWebExperienceUrl", "glue:GetDashboardUrl", "snowball:GetJobUnlockCode", "amplifybackend:CreateToken",
    "amplifybackend:GetToken",
}) - {"kms:GenerateDataKeyPair", "mediastore:GetObject", "transfer:CreateUser"}  # fmt: skip
"""Calls whose answer is a way into something, past the gateway: never passed on, unless the operator names them."""

HANDS_OUT: Final = re.compile(
    r"(?:Get|Create|Generate|Request|Issue|Assume|Obtain|Refresh)(?:[A-Za-z0-9]*)"
    r"(?:Credentials?|AccessKey|AccessToken|AuthToken|AuthorizationToken|SessionToken|FederationToken|PresignedUrl|EmbedUrl|ApiKey|"
    r"LoginProfile|OAuth2Token|Oauth2Token|BearerToken|Password)(?:For[A-Z][A-Za-z0-9]*|With[A-Z][A-Za-z0-9]*|s)?"
    r"|Assume[A-Z][A-Za-z0-9]*|[A-Za-z]*Pre[Ss]igned[A-Za-z]*U(?:rl|RL)|Create(?:Managed)?Session|(?:Get|Create|Generate)[A-Za-z]*(?:Streaming(?:Session)?|Login|Signed[A-Za-z]*)U(?:rl|RL)"
)
"""And those that are called like one: of a service that came after the list above, the name is warning enough."""

INDIRECT: Final = {
    "cloudformation:CreateStack": "a template", "cloudformation:UpdateStack": "a template", "cloudformation:CreateChangeSet": "a template",
    "cloudformation:ExecuteChangeSet": "a template", "cloudformation:CreateStackSet": "a template",
    "cloudformation:UpdateStackSet": "a template", "cloudformation:CreateStackInstances": "a template",
    "cloudcontrol:CreateResource": "a resource of any service", "cloudcontrol:UpdateResource": "a resource of any service",
    "cloudcontrol:DeleteResource": "a resource of any service", "cloudformation:CreateResource": "a resource of any service",
    "cloudformation:UpdateResource": "a resource of any service", "cloudformation:DeleteResource": "a resource of any service",
    "servicecatalog:ProvisionProduct": "a template", "servicecatalog:UpdateProvisionedProduct": "a template",
    "servicecatalog:CreateProduct": "a template", "servicecatalog:CreateProvisioningArtifact": "a template",
    "servicecatalog:ExecuteProvisionedProductPlan": "a template", "servicecatalog:ExecuteProvisionedProductServiceAction": "a document",
    "states:CreateStateMachine": "a state machine", "states:UpdateStateMachine": "a state machine", "states:TestState": "a state machine",
    "scheduler:CreateSchedule": "a call that is made later", "scheduler:UpdateSchedule": "a call that is made later",
    "events:PutTargets": "a call that is made later", "events:CreateApiDestination": "a call that is made later",
    "pipes:CreatePipe": "a call that is made later", "pipes:UpdatePipe": "a call that is made later",
    "config:PutConfigRule": "a rule that runs code", "config:PutRemediationConfigurations": "a remedy that calls any service",
    "config:PutConformancePack": "a template", "ssm:SendCommand": "a command on a machine", "ssm:StartAutomationExecution": "a document",
    "ssm:CreateDocument": "a document", "ssm:UpdateDocument": "a document", "ssm:CreateAssociation": "a command on a machine",
    "ssm:UpdateAssociation": "a command on a machine", "ssm:CreateAssociationBatch": "a command on a machine",
    "ssm:RegisterTaskWithMaintenanceWindow": "a command on a machine", "ssm:UpdateMaintenanceWindowTask": "a command on a machine",
    "ecs:RunTask": "a program", "ecs:StartTask": "a program", "ecs:RegisterTaskDefinition": "a program", "ecs:CreateService": "a program",
    "batch:SubmitJob": "a program", "batch:RegisterJobDefinition": "a program", "codebuild:StartBuild": "a program",
    "codebuild:StartBuildBatch": "a program", "codebuild:CreateProject": "a program", "codebuild:UpdateProject": "a program",
    "codepipeline:CreatePipeline": "a program", "codepipeline:UpdatePipeline": "a program", "codedeploy:CreateDeployment": "a program",
    "lambda:Invoke": "a program", "lambda:InvokeAsync": "a program", "lambda:InvokeWithResponseStream": "a program",
    "lambda:CreateFunction": "a program", "lambda:UpdateFunctionCode": "a program", "lambda:UpdateFunctionConfiguration": "a program",
    "lambda:CreateEventSourceMapping": "a program", "lambda:PublishLayerVersion": "a program",
    "ec2:RunInstances": "a machine with a program of its own", "ec2:RequestSpotInstances": "a machine with a program of its own",
    "ec2:RequestSpotFleet": "a machine with a program of its own", "ec2:CreateFleet": "a machine with a program of its own",
    "ec2:CreateLaunchTemplate": "a machine with a program of its own", "ec2:CreateLaunchTemplateVersion": "a machine with a program of its own",
    "ec2:ModifyInstanceAttribute": "a machine with a program of its own",
    "autoscaling:CreateLaunchConfiguration": "a machine with a program of its own",
    "autoscaling:CreateAutoScalingGroup": "a machine with a program of its own", "glue:CreateJob": "a program", "glue:UpdateJob": "a program",
    "glue:StartJobRun": "a program", "glue:CreateSession": "a program", "glue:RunStatement": "a program", "glue:CreateDevEndpoint": "a program",
    "sagemaker:CreateTrainingJob": "a program", "sagemaker:CreateProcessingJob": "a program", "sagemaker:CreateNotebookInstance": "a program",
    "sagemaker:CreateNotebookInstanceLifecycleConfig": "a program", "elasticmapreduce:RunJobFlow": "a program",
    "elasticmapreduce:AddJobFlowSteps": "a program", "athena:StartQueryExecution": "an SQL statement",
    "athena:StartSession": "a program", "rds-data:ExecuteStatement": "an SQL statement", "rds-data:BatchExecuteStatement": "an SQL statement",
    "rds-data:ExecuteSql": "an SQL statement", "redshift-data:ExecuteStatement": "an SQL statement",
    "redshift-data:BatchExecuteStatement": "an SQL statement", "timestream:Query": "an SQL statement",
    "dynamodb:ExecuteStatement": "a PartiQL statement", "dynamodb:BatchExecuteStatement": "a PartiQL statement",
    "dynamodb:ExecuteTransaction": "a PartiQL statement", "s3:SelectObjectContent": "an SQL statement",
    "s3:PutBucketReplication": "copies of what comes in", "s3:PutBucketNotificationConfiguration": "calls that are made later",
    "s3:PutBucketNotification": "calls that are made later", "s3:PutBucketInventoryConfiguration": "reports that go elsewhere",
    "s3:PutBucketAnalyticsConfiguration": "reports that go elsewhere", "s3:PutBucketLogging": "logs that go elsewhere",
    "s3:PutBucketLifecycleConfiguration": "objects that go later", "s3:PutBucketLifecycle": "objects that go later",
    "s3:PutBucketWebsite": "answers that lead elsewhere", "sns:Subscribe": "messages that go elsewhere",
    "logs:PutSubscriptionFilter": "logs that go elsewhere", "logs:CreateExportTask": "logs that go elsewhere", "logs:CreateDelivery": "logs that go elsewhere",
    "dynamodb:ExportTableToPointInTime": "a table that goes elsewhere", "rds:StartExportTask": "a database that goes elsewhere",
    "ec2:ModifySnapshotAttribute": "a snapshot for other accounts", "ec2:ModifyImageAttribute": "an image for other accounts",
    "ec2:ModifyFpgaImageAttribute": "an image for other accounts", "ec2:ModifyVpcEndpointServicePermissions": "another's right to a service",
    "redshift:AuthorizeSnapshotAccess": "a snapshot for other accounts", "ssm:ModifyDocumentPermission": "a document for other accounts",
    "lambda:AddLayerVersionPermission": "another's right to a program",
    "rds:ModifyDBSnapshotAttribute": "a snapshot for other accounts", "rds:ModifyDBClusterSnapshotAttribute": "a snapshot for other accounts",
    "firehose:CreateDeliveryStream": "data that goes elsewhere", "firehose:UpdateDestination": "data that goes elsewhere",
    "cloudwatch:PutMetricAlarm": "calls that are made later", "cloudwatch:PutCompositeAlarm": "calls that are made later",
    "cloudwatch:PutMetricStream": "data that goes elsewhere", "ec2:ExportImage": "a machine that goes elsewhere",
    "ec2:CreateInstanceExportTask": "a machine that goes elsewhere", "ec2:CreateStoreImageTask": "a machine that goes elsewhere",
    "ec2:CreateTrafficMirrorSession": "traffic that goes elsewhere", "dms:CreateEndpoint": "data that goes elsewhere",
    "dms:CreateReplicationTask": "data that goes elsewhere", "ecr:PutReplicationConfiguration": "images that go elsewhere",
    "backup:StartCopyJob": "copies that go elsewhere", "kms:CreateGrant": "another's right to a key", "lambda:AddPermission": "another's right to a program",
    "appsync:CreateFunction": "a program", "appsync:UpdateFunction": "a program", "appsync:CreateResolver": "a program",
    "appsync:UpdateResolver": "a program", "bedrock-agentcore:InvokeCodeInterpreter": "a program", "kinesisanalytics:StartApplication": "a program",
    "config:SelectResourceConfig": "an SQL statement", "config:SelectAggregateResourceConfig": "an SQL statement",
    "cloudformation:CreateStackRefactor": "a template", "neptune-db:ExecuteOpenCypherQuery": "a query", "neptune-db:ExecuteGremlinQuery": "a query",
    "logs:StartQuery": "a query over log groups", "cloudtrail:StartQuery": "an SQL statement", "fis:StartExperiment": "an experiment",
    "s3:CreateJob": "an act on many objects", "datapipeline:PutPipelineDefinition": "a program", "datasync:StartTaskExecution": "a transfer",
    "amplify:StartDeployment": "a program", "apprunner:CreateService": "a program", "elasticbeanstalk:CreateEnvironment": "a program",
    "elasticbeanstalk:UpdateEnvironment": "a program", "opsworks:CreateDeployment": "a program", "imagebuilder:CreateComponent": "a program",
    "iot:CreateTopicRule": "a call that is made later", "iot:ReplaceTopicRule": "a call that is made later",
    "appsync:EvaluateCode": "a program", "bedrock:InvokeAgent": "an agent", "cloudfront:CreateFunction": "a program",
    "cloudfront:UpdateFunction": "a program",
    "bedrock:InvokeFlow": "an agent", "bedrock:InvokeInlineAgent": "an agent", "bedrock-agentcore:InvokeAgentRuntime": "an agent",
    "bedrock-agentcore:InvokeAgentRuntimeCommand": "a command on a machine", "codebuild:StartCommandExecution": "a command on a machine",
    "codebuild:StartSandbox": "a program", "emr-serverless:StartJobRun": "a program", "emr-containers:StartJobRun": "a program",
    "omics:StartRun": "a program", "cloudformation:RegisterType": "a program", "cloudformation:ActivateType": "a program",
    "iot:CreateJob": "a job for machines", "greengrass:CreateDeployment": "a program", "ssm:StartChangeRequestExecution": "a document",
    "sagemaker:CreateTransformJob": "a program", "sagemaker:CreateHyperParameterTuningJob": "a program", "logs:PutAccountPolicy": "logs that go elsewhere",
    "ec2-instance-connect:SendSSHPublicKey": "a way into a machine", "ec2-instance-connect:SendSerialConsoleSSHPublicKey": "a way into a machine",
    "workspaces:CreateWorkspaces": "a machine", "lightsail:CreateInstances": "a machine with a program of its own",
}  # fmt: skip
"""Calls that have something done elsewhere, later or by another's rights, which nobody here sees: policy must permit `opaque` too."""


STATEMENT: Final = re.compile(
    r"(?i)query_?(?:string|statement|sql)|sql|sql_?(?:query|statements?|code|text)|statements?|select_?expression|commands?|entry_?points?|\w*scripts?|inline_?code"
)
"""Parameters that hold a statement or a program, whatever the call."""
SEARCHES: Final = frozenset({
    "geo-places", "kendra", "kendra-ranking", "cloudsearch", "workdocs", "resource-explorer-2", "resource-groups", "iotwireless", "qbusiness",
    "serverlessrepo", "wisdom", "elasticloadbalancing", "auditmanager", "wafv2", "waf", "waf-regional",
})  # fmt: skip
"""Services in which what is called so is words to look for, or part of a URL."""


def states(service: str, given: Any, depth: int = 0) -> bool:
    """Whether a statement or a program stands in parameters, at whatever depth."""
    if service in SEARCHES or depth > MAX_DEPTH:
        return depth > MAX_DEPTH
    if isinstance(given, list):
        return any(states(service, each, depth + 1) for each in given)
    if not isinstance(given, dict):
        return False
    for name, value in given.items():
        plain = isinstance(value, str) or (isinstance(value, list) and any(isinstance(each, str) for each in value))
        if plain and value and STATEMENT.fullmatch(str(name)) is not None:
            return True
        if states(service, value, depth + 1):
            return True
    return False


class Access:
    """What is known of AWS's actions: `access.json`, which `scripts/aws-access.py` makes."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.services: dict[str, tuple[str, str, str]] = {name: (s, p, e) for name, (s, p, e) in data["services"].items()}
        """botocore's name: (signing name, IAM prefix, endpoint prefix)."""
        self._signing: dict[str, list[str]] = {}
        for name, (signing, _, _) in self.services.items():
            self._signing.setdefault(signing, []).append(name)
        self._data = data["prefixes"]
        self._levels: dict[str, dict[str, str]] = {}

    def signing_as(self, name: str) -> list[str]:
        """The services that sign as `name`."""
        return self._signing.get(name, [])

    def prefix(self, service: str) -> str:
        """The IAM prefix of botocore's service."""
        return self.services[service][1]

    def iam_action(self, prefix: str, operation: str) -> str:
        """The IAM action of an operation."""
        return RENAMED.get((prefix, operation), operation)

    def level(self, prefix: str, action: str) -> str | None:
        """AWS's access level of an IAM action: one of `l r w t p`; None: not known."""
        known = self._levels.get(prefix)
        if known is None:
            held = self._data.get(prefix, {"levels": {}})["levels"]
            known = self._levels[prefix] = {name.lower(): level for level, names in held.items() for name in names.split()}
        return known.get(action.lower())

    def kinds(self, prefix: str, action: str) -> list[tuple[str, bool]]:
        """(ARN's pattern without partition, whether one is needed) of what an IAM action touches."""
        held = self._data.get(prefix)
        if held is None:
            return []
        wanted = action.lower()
        found = []
        for kind, names in held["needs"].items():
            if wanted in names.lower().split():
                arn = held["arns"].get(kind.rstrip("!"))
                if arn is not None:
                    found.append((arn, kind.endswith("!")))
        return found

    def action(self, prefix: str, operation: str) -> Action | None:
        """What a call does; None: nobody knows, so it is refused."""
        level = self.level(prefix, self.iam_action(prefix, operation))
        if level is None:
            return None
        settled = SETTLED.get((prefix, operation))
        if settled is not None:
            return settled
        if level in READS:
            return Action.READ
        if level == "p" or prefix in ADMINISTERED or GOVERNS.fullmatch(operation) is not None:
            return Action.ADMINISTER
        return Action.WRITE if level == "t" else by_verb(operation)


def by_verb(operation: str) -> Action:
    """What an operation that changes something does, by how it is called."""
    words = _VERB.findall(operation) or [operation]
    verb = words[1] if words[0] in ("Batch", "Admin", "Bulk") and len(words) > 1 else words[0]
    if verb in _DELETE:
        return Action.DELETE
    if verb in _EXECUTE:
        return Action.EXECUTE
    if verb in _TRANSFER:
        return Action.TRANSFER
    return Action.WRITE if verb in _WRITE else Action.DEFINE


def hands_out(named: str) -> bool:
    """Whether the answer to `service:Operation` holds a credential, or a way in."""
    return named in VENDING or HANDS_OUT.fullmatch(named.partition(":")[2]) is not None
