//! Rules of a chain, ordered by position. There is no PUT. Ports that a rule names are not checked: a rule may
//! name a port that does not exist yet or any more.

use crate::wording::Wording as _;
use std::net::Ipv4Addr;

use serde_json::{Value, json};
use uuid::Uuid;

use super::rule_fields;
use crate::body::Body;
use crate::call::{BAD_ADDRESS, Call, Rendering, Reply, ReplyResult, exists};
use crate::refusal::{Checks, Refusal};
use crate::state::ControllerState;
use crate::state::objects::Rule;
use crate::wording::ObjectClass;
use atoll_sdn_client::Dialect;

const TP_POLICY: &str =
    "For a rule with tpDst or tpSrc constraints, the fragmentPolicy must be 'header' or 'unfragmented'.";
const NAT_POLICY: &str =
    "For a NAT rule with port constraints or multiple targets, the fragmentPolicy must be 'unfragmented'.";
const UNKNOWN_POLICY: &str =
    "The valid options for fragmentPolicy are: 'any', 'header', 'nonheader', and 'unfragmented'.";

pub(crate) fn list(call: &mut Call<'_>) -> ReplyResult {
    let chain = call.existing(ObjectClass::Chain, 0)?;
    let ids = call.state.tables().chains.get(&chain).map(|chain| chain.rules.clone()).unwrap_or_default();
    let (rules, shown) = (call.state.tables().rules.clone(), call.view.clone());
    let show = move |(place, id): (usize, Uuid)| Some(view(&shown, id, rules.get(&id)?, place + 1));
    Ok(Reply::items(ids.len(), ids.into_iter().enumerate().filter_map(show)))
}

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let rule = call.state.tables().rules.get(&id).ok_or_else(|| call.dialect().absent(ObjectClass::Rule, id))?;
    Ok(Reply::Show(view(&call.view, id, rule, position(call.state, id, rule))))
}

pub(crate) fn create(call: &mut Call<'_>) -> ReplyResult {
    let rule = read(call)?;
    let chain = rule.chain;
    if !exists(call.state, ObjectClass::Chain, chain) {
        return Err(call.dialect().absent(ObjectClass::Chain, chain));
    }
    let count = call.state.tables().chains.get(&chain).map_or(0, |chain| chain.rules.len());
    let position = call.body.int("position")?.unwrap_or(1);
    let place = position.checked_sub(1).and_then(|place| usize::try_from(place).ok()).filter(|place| *place <= count);
    let place = place.ok_or_else(|| call.dialect().position())?;
    let id = call.new_id(ObjectClass::Rule)?;
    call.state.put_rule(id, rule, place);
    Ok(Reply::Created(Some(format!("/rules/{id}"))))
}

pub(crate) fn delete(call: &mut Call<'_>) -> ReplyResult {
    let id = call.id(0)?;
    let there = call.state.remove_rule(id);
    call.gone(ObjectClass::Rule, id, there)
}

/// Positions are not stored: a rule is where its chain says.
fn position(state: &ControllerState, id: Uuid, rule: &Rule) -> usize {
    let chain = state.tables().chains.get(&rule.chain);
    chain.and_then(|chain| chain.rules.iter().position(|other| *other == id)).map_or(0, |place| place + 1)
}

// ---- reading -----------------------------------------------------------------------------------------------------

fn read(call: &Call<'_>) -> Result<Rule, Refusal> {
    let body = &call.body;
    let Some(kind) = body.text("type")? else {
        return Err(call.dialect().unreadable("missing property 'type' that is to contain type id"));
    };
    let mut fields = rule_fields::read(body, &call.view)?;
    match kind.as_str() {
        "accept" | "drop" | "reject" | "return" => {}
        "jump" => {
            let target = call.reference("jumpChainId", ObjectClass::Chain)?;
            let target = target.ok_or_else(|| Refusal::invalid("jumpChainId", "may not be null"))?;
            fields.insert("jumpChainId".to_owned(), json!(target));
            if let Some(name) = body.text("jumpChainName")? {
                fields.insert("jumpChainName".to_owned(), json!(name));
            }
        }
        "snat" | "dnat" => {
            read_flow(body, &mut fields, &["accept", "continue", "return"])?;
            fields.insert("natTargets".to_owned(), read_targets(body, call.dialect())?);
        }
        "rev_snat" | "rev_dnat" => read_flow(body, &mut fields, &["accept", "continue", "return"])?,
        "trace" => {
            let request = body.uuid("requestId")?.ok_or_else(|| Refusal::invalid("requestId", "may not be null"))?;
            fields.insert("requestId".to_owned(), json!(request));
            fields.insert("limit".to_owned(), json!(body.int("limit")?.unwrap_or(i64::MAX)));
        }
        "l2_transform" if call.dialect() == Dialect::V5 => {
            read_flow(body, &mut fields, &["accept", "redirect"])?;
            read_l2(body, &mut fields)?;
        }
        other => return Err(call.dialect().unreadable(format!("Could not resolve type id '{other}' into a rule"))),
    }
    if call.view.is_v5() || call.view.version >= 2 {
        fields.insert("fragmentPolicy".to_owned(), read_policy(body, &kind, &fields)?);
    }
    Ok(Rule { chain: call.id(0)?, kind, fields })
}

type Fields = std::collections::BTreeMap<String, Value>;

fn read_flow(body: &Body, fields: &mut Fields, allowed: &[&str]) -> Result<(), Refusal> {
    let flow = body.text("flowAction")?.unwrap_or_default();
    if !allowed.contains(&flow.as_str()) {
        return Err(Refusal::invalid("flowAction", format!("should be one of {}", allowed.join(", "))));
    }
    fields.insert("flowAction".to_owned(), json!(flow));
    Ok(())
}

fn read_l2(body: &Body, fields: &mut Fields) -> Result<(), Refusal> {
    let push = body.int("pushVlan")?.unwrap_or(0);
    if !(0..=0xffff).contains(&push) {
        return Err(Refusal::invalid("pushVlan", "must be between 0 and 65535"));
    }
    fields.insert("pushVlan".to_owned(), json!(push));
    fields.insert("targetPortId".to_owned(), json!(body.uuid("targetPortId")?));
    for flag in ["popVlan", "ingress", "failOpen"] {
        fields.insert(flag.to_owned(), json!(body.flag(flag)?.unwrap_or(false)));
    }
    Ok(())
}

fn read_targets(body: &Body, dialect: Dialect) -> Result<Value, Refusal> {
    let list = body.raw("natTargets").and_then(Value::as_array).filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| Refusal::invalid("natTargets", "may not be null or empty"))?;
    let mut checks = Checks::default();
    let mut targets = Vec::new();
    for target in list {
        let target = Body::nested(target, dialect)?;
        let mut address = |name: &str| -> Result<Ipv4Addr, Refusal> {
            match target.ipv4(name)? {
                Some(Ok(address)) => return Ok(address),
                Some(Err(())) => checks.wrong("natTargets", format!("{name} {BAD_ADDRESS}")),
                None => checks.wrong("natTargets", format!("{name} may not be null")),
            }
            Ok(Ipv4Addr::UNSPECIFIED)
        };
        let (from, to) = (address("addressFrom")?, address("addressTo")?);
        let (first, last) = (target.int("portFrom")?.unwrap_or(0), target.int("portTo")?.unwrap_or(0));
        if ![first, last].iter().all(|port| (0..=65535).contains(port)) {
            checks.wrong("natTargets", "ports must be between 0 and 65535");
        }
        targets.push(json!({ "addressFrom": from, "addressTo": to, "portFrom": first, "portTo": last }));
    }
    checks.finish()?;
    Ok(Value::Array(targets))
}

/// The fragment policy: what a rule without one gets, and what it may not be.
fn read_policy(body: &Body, kind: &str, fields: &Fields) -> Result<Value, Refusal> {
    let given = body.text("fragmentPolicy")?;
    if let Some(policy) = &given
        && !["any", "header", "nonheader", "unfragmented"].contains(&policy.as_str())
    {
        return Err(Refusal::invalid("fragmentPolicy", UNKNOWN_POLICY));
    }
    let ports = fields.contains_key("tpSrc") || fields.contains_key("tpDst");
    let forward_nat = matches!(kind, "snat" | "dnat");
    let (default, allowed, refusal): (&str, &[&str], &str) = if forward_nat && (ports || !is_floating(fields)) {
        ("unfragmented", &["unfragmented"], NAT_POLICY)
    } else if ports {
        ("header", &["header", "unfragmented"], TP_POLICY)
    } else {
        ("any", &["any", "header", "nonheader", "unfragmented"], UNKNOWN_POLICY)
    };
    let policy = given.as_deref().unwrap_or(default);
    if allowed.contains(&policy) { Ok(json!(policy)) } else { Err(Refusal::invalid("fragmentPolicy", refusal)) }
}

/// A floating address: one target of one address that keeps the port.
fn is_floating(fields: &Fields) -> bool {
    let targets = fields.get("natTargets").and_then(Value::as_array);
    matches!(targets.map(Vec::as_slice), Some([target])
        if target["addressFrom"] == target["addressTo"] && target["portFrom"] == 0 && target["portTo"] == 0)
}

// ---- showing -----------------------------------------------------------------------------------------------------

fn view(view: &Rendering, id: Uuid, rule: &Rule, position: usize) -> Value {
    let mut value = rule_fields::show(&rule.fields, view);
    value.insert("id".to_owned(), json!(id));
    value.insert("uri".to_owned(), view.uri(&format!("/rules/{id}")));
    value.insert("chainId".to_owned(), json!(rule.chain));
    value.insert("chain".to_owned(), view.link("/chains", Some(rule.chain)));
    value.insert("type".to_owned(), json!(rule.kind));
    value.insert("position".to_owned(), json!(position));
    let own: &[&str] = match rule.kind.as_str() {
        "jump" => &["jumpChainId", "jumpChainName"],
        "snat" | "dnat" => &["flowAction", "natTargets"],
        "rev_snat" | "rev_dnat" => &["flowAction"],
        "trace" => &["requestId", "limit"],
        "l2_transform" => &["flowAction", "pushVlan", "targetPortId", "popVlan", "ingress", "failOpen"],
        _ => &[],
    };
    for name in own {
        value.insert((*name).to_owned(), rule.fields.get(*name).cloned().unwrap_or(Value::Null));
    }
    if rule.kind == "jump" {
        let chain = rule_fields::id(&rule.fields, "jumpChainId");
        value.insert("jumpChain".to_owned(), view.link("/chains", chain));
    }
    if view.is_v5() || view.version >= 2 {
        value.insert("fragmentPolicy".to_owned(), rule.fields.get("fragmentPolicy").cloned().unwrap_or(json!("any")));
    }
    Value::Object(value)
}
