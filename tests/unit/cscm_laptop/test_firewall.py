"""The firewall rules of the build network, with a fake iptables that stores rules in a file."""

import pytest

from cscm_laptop import firewall

OWNER = "test"
IPTABLES = r"""#!/bin/bash
# iptables --wait N --table T -C|-I|-D CHAIN RULE...: rules are lines of a file beside it
here=$(dirname "$0"); action=$5; line="$4 ${*:6}"
touch "$here/rules"
case $action in
-C) grep -qxF -- "$line" "$here/rules" ;;
-I) [ ! -e "$here/closed" ] && echo "$line" >> "$here/rules" ;;
-D)
  grep -qxF -- "$line" "$here/rules" || exit 1
  grep -vxF -- "$line" "$here/rules" > "$here/left"
  mv "$here/left" "$here/rules"
  ;;
esac
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """Install the fake iptables and return the file with the rules."""
    program = tmp_path / "iptables"
    program.write_text(IPTABLES)
    program.chmod(0o755)
    monkeypatch.setattr(firewall, "find_iptables", lambda: str(program))
    (tmp_path / "bridged").write_text("1\n")
    monkeypatch.setattr(firewall, "BRIDGED_TRAFFIC", tmp_path / "bridged")
    return tmp_path / "rules"


def test_firewall_rules_are_set_once(rules):
    """Each `cscm up` sets only missing rules."""
    assert len(firewall.find_missing_rules(OWNER)) == len(firewall.RULES)
    assert firewall.set_rules(OWNER) == []
    first = rules.read_text()

    assert firewall.set_rules(OWNER) == firewall.find_missing_rules(OWNER) == []
    assert rules.read_text() == first
    assert "raw PREROUTING -i docker0 -d 169.254.0.0/16 -m comment --comment cscm-test --jump DROP" in first
    assert "mangle FORWARD -i docker0 -o docker0 -m comment --comment cscm-test --jump DROP" in first


def test_removed_firewall_rule_is_set_again(rules):
    """A reload of the firewall may remove rules."""
    firewall.set_rules(OWNER)
    left = [line for line in rules.read_text().splitlines() if "169.254" not in line]
    rules.write_text("\n".join(left) + "\n# another's\n")

    assert [rule.why for rule in firewall.find_missing_rules(OWNER)] == ["link-local addresses"]
    assert firewall.set_rules(OWNER) == firewall.find_missing_rules(OWNER) == []


def test_remove_rules_removes_only_own_rules(rules):
    """Rules of others stay."""
    rules.write_text("mangle FORWARD -i docker0 --jump RETURN\n")
    firewall.set_rules("other")
    others = rules.read_text()
    firewall.set_rules(OWNER)

    firewall.remove_rules(OWNER)

    assert rules.read_text() == others
    assert firewall.find_missing_rules("other") == []


def test_set_rules_reports_rules_that_cannot_be_set(rules, monkeypatch):
    """iptables may refuse rules or be missing."""
    (rules.parent / "closed").touch()
    assert len(firewall.set_rules(OWNER)) == len(firewall.RULES)

    monkeypatch.setattr(firewall, "find_iptables", lambda: None)
    assert len(firewall.set_rules(OWNER)) == len(firewall.RULES)


def test_firewall_rule_for_build_steps_sets_bridge_netfilter(rules, monkeypatch, tmp_path):
    """Where traffic on a bridge skips iptables, the rule is set and has no effect."""
    setting = tmp_path / "bridged"
    setting.write_text("0\n")
    assert firewall.render_commands(OWNER).startswith(
        "sudo modprobe br_netfilter && sudo sysctl -w net.bridge.bridge-nf-call-iptables=1 && sudo iptables "
    )
    assert firewall.set_rules(OWNER) == []
    assert setting.read_text() == "1\n"
    assert firewall.render_commands(OWNER).startswith("sudo iptables ")

    setting.unlink()
    monkeypatch.setattr(firewall, "PLACES", ())
    monkeypatch.setenv("PATH", "")
    assert [rule.why for rule in firewall.find_missing_rules(OWNER)] == ["other build steps"]
    assert [rule.why for rule in firewall.set_rules(OWNER)] == ["other build steps"]


def test_module_of_the_setting_is_loaded(rules, monkeypatch, tmp_path):
    """The setting exists only while the module is loaded."""
    setting, modprobe = tmp_path / "bridged", tmp_path / "modprobe"
    setting.unlink()
    modprobe.write_text(f'#!/bin/bash\n[ "$*" = br_netfilter ] && echo 1 > {setting}\n')
    modprobe.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    assert firewall.set_rules(OWNER) == []


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("", False),
        ("fe800000000000000042a1fffe000001 04 40 20 80  docker0", False),
        ("fd000000000000000000000000000001 04 40 00 80  docker0", True),
        ("20010db8000000000000000000000001 04 40 00 80  docker0", True),
        ("20010db8000000000000000000000001 02 40 00 80     eth0", False),
    ],
)
def test_bridge_with_ipv6_addresses_is_detected(tmp_path, line, has):
    """There are no rules for IPv6; a link-local address alone gives build steps no address."""
    (tmp_path / "if_inet6").write_text(f"00000000000000000000000000000001 01 80 10 80       lo\n{line}\n")

    assert firewall.has_ipv6(addresses=tmp_path / "if_inet6") is has
    assert not firewall.has_ipv6(addresses=tmp_path / "none")
