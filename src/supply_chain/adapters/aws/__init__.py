"""AWS through boto3: sessions, accounts, ECR, KMS and SQS."""
