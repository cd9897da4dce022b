"""Files anywhere: on this machine, in S3 (s3://) and in Google Cloud Storage (gs://)."""
