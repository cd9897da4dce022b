"""What the launcher of a flex template adds to the template's parameters."""

from tests.cluster.google import ACCOUNT, PROJECT

LABELS = '--labels={\n   "goog-dataflow-provided-template-type" : "flex"\n}\n'
"""Dataflow's labels of the job, as the launcher gives them."""


def launcher_flags(name: str) -> list[str]:
    """All but the labels. name: what tells one job's folder gs://bucket/staging-NAME from others'.

    With `--template_location` a job is not handed in but written there, from where Dataflow takes
    it.
    """
    staging = f"gs://bucket/staging-{name}"
    return [
        "--runner=DataflowRunner",
        f"--project={PROJECT}",
        "--region=europe-west4",
        "--job_name=job",
        "--max_num_workers=10",
        f"--service_account_email={ACCOUNT}",
        f"--staging_location={staging}",
        "--temp_location=gs://bucket/tmp",
        f"--template_location={staging}/template_launches/1/job_object",
    ]
