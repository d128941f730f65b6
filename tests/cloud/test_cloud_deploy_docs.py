"""What docs/cloud-deploy.md names exists: parameters, outputs, files, the policy, the rules."""

import re

import pytest

from cloud.cloudformation import TEMPLATE_PATH, load_template
from cloud.deploy import bundle
from cloud.template import load_rules

ROOT = TEMPLATE_PATH.parent.parent
TEXT = (ROOT / "docs" / "cloud-deploy.md").read_text()
TEMPLATE = load_template()


def section(title):
    return TEXT.partition(f"# {title}\n")[2].partition("\n## ")[0]


def test_the_table_of_parameters_is_the_template_s():
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]*) \|", section("Parameters"), re.MULTILINE)
    told = {}
    for names, defaults in rows:
        told.update(
            zip(re.findall(r"`(\w+)`", names), re.split(r", ", defaults.strip()), strict=True)
        )
    assert set(told) == set(TEMPLATE["Parameters"])
    for name, default in told.items():
        expected = TEMPLATE["Parameters"][name].get("Default", "")
        assert default.strip("`") == (str(expected) or "none"), name


def test_the_deploy_command_overrides_parameters_that_exist_in_the_template_that_exists():
    command = next(line for line in TEXT.splitlines() if line.strip().startswith("sam deploy"))
    assert "--template-file cloud/template.yaml" in command
    assert (ROOT / "cloud" / "template.yaml").exists()
    overridden = re.findall(r"(\w+)=", command.partition("--parameter-overrides")[2])
    assert overridden
    assert set(overridden) <= set(TEMPLATE["Parameters"])


@pytest.mark.parametrize("output", ["VehiclesTableName", "DeadLetterQueueUrl"])
def test_outputs_that_it_names_exist(output):
    assert f"`{output}`" in TEXT
    assert output in TEMPLATE["Outputs"]


def test_the_rules_and_the_policy_have_the_names_that_it_gives():
    for rule in load_rules():
        assert f"`{rule.name}`" in TEXT or f"`{rule.name.removeprefix('milepost')}`" in TEXT
    policy = TEMPLATE["Resources"]["VehiclePolicy"]["Properties"]["PolicyName"].argument
    assert f"`{policy.replace('${RulePrefix}', 'milepost')}`" in TEXT


def test_the_bundle_command_is_there_and_explains_itself(capsys):
    assert "python -m cloud.deploy.bundle" in TEXT
    with pytest.raises(SystemExit) as ended:
        bundle.main(["--help"])
    assert ended.value.code == 0
    assert "--target" in capsys.readouterr().out


def test_what_it_says_is_kept_is_what_the_template_retains():
    retained = {
        resource["Type"]
        for resource in TEMPLATE["Resources"].values()
        if resource.get("DeletionPolicy") == "Retain"
    }
    assert retained == {"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue"}
    kept = [row for row in TEXT.splitlines() if row.endswith("| **yes** |")]
    assert len(kept) == len(retained)
