"""The template's AWS IoT policies, filled in as a deployed stack has them, and evaluated.

The rules are those of "AWS IoT Core policies" in its developer guide: denied unless a
statement allows it; ``*`` and ``?`` in a resource match any characters, MQTT's own wildcards
in a filter are plain characters; a policy variable without a value makes its statement match
nothing.
"""

import json
import re
from dataclasses import dataclass

from cloud.cloudformation import Intrinsic, load_template

THING = "${iot:Connection.Thing.ThingName}"
STACK = {
    "AWS::Partition": "aws",
    "AWS::Region": "ap-southeast-2",
    "AWS::AccountId": "123456789012",
    "RulePrefix": "milepost",
}
KINDS = {
    "iot:Connect": "client",
    "iot:Publish": "topic",
    "iot:RetainPublish": "topic",
    "iot:Receive": "topic",
    "iot:Subscribe": "topicfilter",
}


def _filled(node, stack):
    match node:
        case Intrinsic("Sub", str(text)):
            for name, value in stack.items():
                text = text.replace(f"${{{name}}}", value)
            assert "${AWS" not in text
            return text.replace("${!", "${")
        case dict():
            return {key: _filled(value, stack) for key, value in node.items()}
        case list():
            return [_filled(value, stack) for value in node]
        case str():
            return node
    raise AssertionError(f"a policy holds {node!r}")


def document(logical_id, **stack):
    """The policy document of a resource, as AWS gets it."""
    resource = load_template()["Resources"][logical_id]
    assert resource["Type"] == "AWS::IoT::Policy"
    return _filled(resource["Properties"]["PolicyDocument"], STACK | stack)


def size(policy):
    """Characters as AWS counts them: white space is not."""
    return len(re.sub(r"\s", "", json.dumps(policy, separators=(",", ":"))))


def as_list(value):
    """One or several, as a list."""
    return value if isinstance(value, list) else [value]


@dataclass(frozen=True)
class Principal:
    """A certificate: the policies attached to it, and the thing that it is attached to."""

    documents: tuple
    thing: str | None = None

    def may(self, action, name):
        """Whether ``action`` is allowed on a client id, topic or filter."""
        arn = ":".join(
            ("arn", STACK["AWS::Partition"], "iot", STACK["AWS::Region"], STACK["AWS::AccountId"])
        )
        wanted = f"{arn}:{KINDS[action]}/{name}"
        statements = [one for policy in self.documents for one in policy["Statement"]]
        effects = [one["Effect"] for one in statements if self._applies(one, action, wanted)]
        return "Allow" in effects and "Deny" not in effects

    def _applies(self, statement, action, wanted):
        condition = statement.get("Condition", {})
        if condition:
            assert condition == {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}
            if self.thing is None:
                return False
        return action in as_list(statement["Action"]) and any(
            self._matches(resource, wanted) for resource in as_list(statement["Resource"])
        )

    def _matches(self, resource, wanted):
        if THING in resource:
            if self.thing is None:
                return False
            resource = resource.replace(THING, self.thing)
        assert "${" not in resource, resource
        pattern = re.escape(resource).replace(r"\*", ".*").replace(r"\?", ".")
        return re.fullmatch(pattern, wanted) is not None


def vehicle(thing):
    """A vehicle's certificate as the provisioning templates make it."""
    return Principal((document("VehiclePolicy"), document("VehicleServicesPolicy")), thing)


def claim():
    """A claim certificate as ``fleet claim create`` makes it: of no thing."""
    return Principal((document("ClaimPolicy"),))
