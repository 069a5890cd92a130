//! Rules: positions, types, the table of fragment policies.

use atoll_mock_controller::Dialect;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture::{BOTH, Fixture, id};

fn rules(fixture: &Fixture) -> String {
    format!("/chains/{}/rules", fixture.chain(1, "t"))
}

fn at(fixture: &Fixture, path: &str, number: u128, position: &Value) -> u16 {
    fixture.post(path, &json!({ "id": id(number), "type": "accept", "position": position })).status
}

#[test]
fn positions_are_dense_and_bounded() {
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let path = rules(&fixture);
        for (number, position, status) in [
            (11, json!(2), 400),
            (11, json!(0), 400),
            (11, json!(-5), 400),
            (11, json!(1), 201),
            (12, json!("2"), 201),
            (13, Value::Null, 201),
            (14, json!(4), 201),
            (15, json!(2), 201),
            (16, json!(7), 400),
            (16, json!(i64::MIN), 400),
            (16, json!(i64::MAX), 400),
        ] {
            assert_eq!(at(&fixture, &path, number, &position), status, "{number} at {position} in {dialect}");
        }
        let order = [13, 15, 11, 12, 14].map(id);
        assert_eq!(fixture.ids(&path), order);
        let positions: Vec<Value> = fixture.list(&path).into_iter().map(|rule| rule["position"].clone()).collect();
        assert_eq!(positions, [1, 2, 3, 4, 5]);
        assert_eq!(fixture.delete(&format!("/rules/{}", id(15))), 204);
        assert_eq!(fixture.get(&format!("/rules/{}", id(14))).body["position"], 4, "the rest closes up");

        let refused = fixture.post(&path, &json!({ "type": "accept", "position": 6 }));
        match dialect {
            Dialect::V5 => assert_eq!(refused.message(), "Position exceeds number of rules in chain"),
            Dialect::V1 => assert_eq!(refused.violations(), ["position: Invalid rule position."]),
        }
    }
}

fn nat(from: &str, to: &str, first: u16, last: u16) -> Value {
    json!({ "type": "snat", "flowAction": "accept",
        "natTargets": [{ "addressFrom": from, "addressTo": to, "portFrom": first, "portTo": last }] })
}

#[test]
fn fragment_policies_follow_the_table() {
    let plain = json!({ "type": "drop" });
    let ports = json!({ "type": "drop", "nwProto": 6, "tpDst": { "start": 80, "end": 80 } });
    let open = json!({ "type": "drop", "nwProto": 6, "tpSrc": { "start": 1024, "end": null } });
    let floating = nat("10.0.0.9", "10.0.0.9", 0, 0);
    let range = nat("10.0.0.9", "10.0.0.10", 0, 0);
    let masquerade = nat("10.0.0.9", "10.0.0.9", 1024, 65535);
    let reverse = json!({ "type": "rev_snat", "flowAction": "continue" });
    // The default policy of a rule, and which of any, header, nonheader, unfragmented it may have.
    for (body, default, allowed) in [
        (&plain, "any", [true, true, true, true]),
        (&reverse, "any", [true, true, true, true]),
        (&floating, "any", [true, true, true, true]),
        (&ports, "header", [false, true, false, true]),
        (&open, "header", [false, true, false, true]),
        (&range, "unfragmented", [false, false, false, true]),
        (&masquerade, "unfragmented", [false, false, false, true]),
    ] {
        for dialect in BOTH {
            let fixture = Fixture::new(dialect);
            let path = rules(&fixture);
            let rule = fixture.post(&path, body).created();
            assert_eq!(fixture.get(&format!("/rules/{rule}")).body["fragmentPolicy"], default, "{body} in {dialect}");
            for (policy, allowed) in ["any", "header", "nonheader", "unfragmented"].into_iter().zip(allowed) {
                let mut body = body.clone();
                body["fragmentPolicy"] = json!(policy);
                let answer = fixture.post(&path, &body);
                assert_eq!(answer.status, if allowed { 201 } else { 400 }, "{policy}: {body} in {dialect}");
                if !allowed {
                    assert!(answer.violations()[0].contains("the fragmentPolicy must be"), "{answer:?}");
                }
            }
            let mut odd = body.clone();
            odd["fragmentPolicy"] = json!("sometimes");
            assert!(fixture.post(&path, &odd).violations()[0].contains("The valid options for fragmentPolicy are"));
        }
    }
}

#[test]
fn every_type_has_its_own_fields() {
    let dead = id(0xdead);
    for (body, v5, v1) in [
        (json!({ "type": "accept" }), 201, 201),
        (json!({ "type": "drop" }), 201, 201),
        (json!({ "type": "reject" }), 201, 201),
        (json!({ "type": "return" }), 201, 201),
        (json!({ "type": "jump" }), 400, 400),
        (json!({ "type": "jump", "jumpChainId": id(1), "jumpChainName": "there" }), 201, 201),
        (json!({ "type": "snat", "flowAction": "accept" }), 400, 400),
        (json!({ "type": "snat", "flowAction": "accept", "natTargets": [] }), 400, 400),
        (json!({ "type": "dnat", "flowAction": "accept", "natTargets": [{}] }), 400, 400),
        (json!({ "type": "dnat", "flowAction": "accept", "natTargets": ["x"] }), 400, 400),
        (json!({ "type": "rev_dnat" }), 400, 400),
        (json!({ "type": "rev_dnat", "flowAction": "later" }), 400, 400),
        (json!({ "type": "rev_dnat", "flowAction": "return" }), 201, 201),
        (json!({ "type": "trace" }), 400, 400),
        (json!({ "type": "trace", "requestId": dead, "limit": 5 }), 201, 201),
        (json!({ "type": "l2_transform", "flowAction": "redirect", "targetPortId": dead }), 201, 400),
        (json!({ "type": "l2_transform", "flowAction": "accept", "pushVlan": 70000 }), 400, 400),
        (json!({ "type": "nonsense" }), 400, 400),
        (json!({}), 400, 400),
        (json!({ "type": "drop", "dlType": 5 }), 400, 400),
        (json!({ "type": "drop", "dlSrc": "nope" }), 400, 400),
        (json!({ "type": "drop", "dlSrc": "2:0:0:0:0:1", "dlSrcMask": "ffff.ff00.0000" }), 201, 201),
        (json!({ "type": "drop", "dlSrcMask": "ffff:ff00:0000" }), 400, 400),
        (json!({ "type": "drop", "nwSrcAddress": "300.0.0.1" }), 400, 400),
        (json!({ "type": "drop", "nwSrcAddress": "10.0.0.0", "nwSrcLength": "8" }), 201, 201),
        (json!({ "type": "drop", "nwSrcLength": 33 }), 400, 400),
        (json!({ "type": "drop", "tpDst": { "start": 9, "end": 8 } }), 400, 400),
        (json!({ "type": "drop", "tpDst": { "start": 70000 } }), 400, 400),
        (json!({ "type": "drop", "tpDst": 80 }), 400, 400),
        (json!({ "type": "drop", "inPorts": "x" }), 400, 400),
        (json!({ "type": "drop", "inPorts": [dead], "outPorts": [] }), 201, 201),
    ] {
        for (dialect, status) in [(Dialect::V5, v5), (Dialect::V1, v1)] {
            let fixture = Fixture::new(dialect);
            let answer = fixture.post(&rules(&fixture), &body);
            assert_eq!(answer.status, status, "{body} in {dialect}: {answer:?}");
            if status == 201 {
                // No field is lost; a number that was sent as text is shown as a number.
                let read = fixture.get(&format!("/rules/{}", answer.created())).body;
                let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok()).map(Value::from);
                for (name, sent) in body.as_object().expect("an object") {
                    let same = read[name] == *sent || number(sent).is_some_and(|number| read[name] == number);
                    let same = same || *sent == json!([]) && read[name].is_null() || name == "dlSrc";
                    assert!(same, "{name} of {body} in {dialect}: {read}");
                }
            }
        }
    }
}

#[test]
fn every_written_field_reads_back() {
    let sent = json!({ "type": "drop", "condInvert": true, "matchForwardFlow": true, "inPorts": [id(5)], "invInPorts": true,
        "portGroup": id(6), "ipAddrGroupSrc": id(7), "dlType": 0x0800, "dlSrc": "02:00:00:00:00:01", "invDlSrc": true,
        "nwTos": 3, "nwProto": 17, "nwDstAddress": "10.0.0.0", "nwDstLength": 8, "invNwDst": true,
        "tpDst": { "start": 53, "end": 53 }, "fragmentPolicy": "unfragmented", "traversedDevice": id(8) });
    for dialect in BOTH {
        let fixture = Fixture::new(dialect);
        let rule = fixture.post(&rules(&fixture), &sent).created();
        let read = fixture.get(&format!("/rules/{rule}")).body;
        for (key, value) in sent.as_object().expect("an object") {
            assert_eq!(&read[key], value, "{key} in {dialect}");
        }
        for (key, value) in [("invOutPorts", json!(false)), ("outPorts", Value::Null), ("tpSrc", Value::Null)] {
            assert_eq!(read[key], value, "{key} in {dialect}");
        }
        let typed: atoll_sdn_client::api::Rule = serde_json::from_value(read).expect("the client's type reads it");
        assert_eq!(typed.id, Some(rule));
    }
}

#[test]
fn a_rule_is_converted_for_the_data_plane() {
    use atoll_model::topology::{FlowAction, Fragments, RuleAction, Test};
    let fixture = Fixture::new(Dialect::V5);
    let path = rules(&fixture);
    let mut snat = nat("10.0.0.9", "10.0.0.9", 1024, 65535);
    snat["outPorts"] = json!([id(5)]);
    fixture.post(&path, &snat).created();
    let drop = json!({ "type": "drop", "nwProto": 6, "invNwProto": true, "nwSrcAddress": "10.1.2.3", "nwSrcLength": 8,
        "tpDst": { "start": null, "end": 80 }, "vlan": 9, "icmpDataSrcIpAddress": "10.0.0.1", "dlSrc": "02:00:00:00:00:01",
        "dlSrcMask": "ffff.ff00.0000" });
    fixture.post(&path, &drop).created();
    let topology = fixture.mock.controller().follow();
    let rules = &topology.chains[&id(1)].rules;
    assert_eq!(rules.len(), 2);
    let condition = &rules[0].condition;
    assert_eq!(rules[0].action, RuleAction::Drop);
    assert_eq!(condition.protocol, Some(Test { value: 6, inverted: true }));
    assert_eq!(condition.source, Some(Test::is("10.1.2.3/8".parse().expect("a network"))));
    assert_eq!(condition.destination_port, Some(Test::is((0, 80))));
    assert_eq!(condition.vlan, Some(Some(9)));
    assert_eq!(condition.other, ["icmpDataSrcIpAddress"], "what has no word is named, not lost");
    let mac = |text: &str| text.parse().expect("a MAC");
    assert_eq!(condition.ether_source, Some(Test::is((mac("02:00:00:00:00:01"), mac("ff:ff:ff:00:00:00")))));
    assert_eq!(condition.fragments, Fragments::Header);
    let RuleAction::Snat { targets, then } = &rules[1].action else { panic!("{:?}", rules[1].action) };
    assert_eq!((targets[0].port_from, targets[0].port_to, *then), (1024, 65535, FlowAction::Accept));
    assert_eq!(rules[1].condition.out_ports, Some(Test::is(vec![id(5)])));
    assert_eq!(rules[1].condition.in_ports, None::<Test<Vec<Uuid>>>);
}
