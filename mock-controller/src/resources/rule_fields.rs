//! The fields of a rule as one table: how each is read, and how it reads back when it is absent.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::body::{Body, parse_uuid};
use crate::call::{BAD_ADDRESS, Rendering};
use crate::refusal::{Checks, Refusal};
use atoll_sdn_client::Dialect;

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    Flag,
    Id,
    Ids,
    /// A number within bounds.
    Int(i64, i64),
    /// As `Int`; 1.9 writes 0 for "any".
    Sentinel(i64, i64),
    Mac,
    /// `hhhh.hhhh.hhhh`.
    Mask,
    Address,
    /// `{"start": .., "end": ..}`.
    Ports,
    Text,
    /// A map of texts.
    Texts,
}

/// Who knows a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Since {
    Always,
    /// 1.9 from version 2 of the resource.
    Two,
    /// 5.x only.
    Five,
    /// 1.9 only.
    Old,
}

use Shape::{Address, Flag, Id, Ids, Int, Mac, Mask, Ports, Sentinel, Text, Texts};
use Since::{Always, Five, Old, Two};

static FIELDS: &[(&str, Shape, Since)] = &[
    ("meterName", Text, Always),
    ("properties", Texts, Old),
    ("condInvert", Flag, Always),
    ("matchForwardFlow", Flag, Always),
    ("matchReturnFlow", Flag, Always),
    ("inPorts", Ids, Always),
    ("invInPorts", Flag, Always),
    ("outPorts", Ids, Always),
    ("invOutPorts", Flag, Always),
    ("portGroup", Id, Always),
    ("invPortGroup", Flag, Always),
    ("inPortGroup", Id, Five),
    ("invInPortGroup", Flag, Five),
    ("outPortGroup", Id, Five),
    ("invOutPortGroup", Flag, Five),
    ("ipAddrGroupSrc", Id, Always),
    ("invIpAddrGroupSrc", Flag, Always),
    ("ipAddrGroupDst", Id, Always),
    ("invIpAddrGroupDst", Flag, Always),
    ("traversedDevice", Id, Always),
    ("invTraversedDevice", Flag, Always),
    ("noVlan", Flag, Five),
    ("vlan", Int(0, 4095), Five),
    ("dlType", Int(0x0600, 0xffff), Always),
    ("invDlType", Flag, Always),
    ("dlSrc", Mac, Always),
    ("invDlSrc", Flag, Always),
    ("dlSrcMask", Mask, Two),
    ("dlDst", Mac, Always),
    ("invDlDst", Flag, Always),
    ("dlDstMask", Mask, Two),
    ("nwTos", Sentinel(0, 255), Always),
    ("invNwTos", Flag, Always),
    ("nwProto", Sentinel(0, 255), Always),
    ("invNwProto", Flag, Always),
    ("nwSrcAddress", Address, Always),
    ("nwSrcLength", Int(0, 32), Always),
    ("invNwSrc", Flag, Always),
    ("nwDstAddress", Address, Always),
    ("nwDstLength", Int(0, 32), Always),
    ("invNwDst", Flag, Always),
    ("tpSrc", Ports, Always),
    ("invTpSrc", Flag, Always),
    ("tpDst", Ports, Always),
    ("invTpDst", Flag, Always),
    ("matchNwDstRewritten", Flag, Five),
    ("icmpDataSrcIpAddress", Address, Five),
    ("icmpDataSrcIpLength", Int(0, 32), Five),
    ("invIcmpDataSrcIp", Flag, Five),
    ("icmpDataDstIpAddress", Address, Five),
    ("icmpDataDstIpLength", Int(0, 32), Five),
    ("invIcmpDataDstIp", Flag, Five),
];

const BAD_MAC: &str = "MAC address string must be 6 words of 1 or 2 hex digits joined with 5 ':'";
const BAD_MASK: &str = "MAC mask must consist of three sets of four hexadecimal digits separated by periods, e.g. \
                        \"ffff.ff00.0000\".";

fn known(since: Since, dialect: Dialect, version: u8) -> bool {
    match since {
        Always => true,
        Two => dialect == Dialect::V5 || version >= 2,
        Five => dialect == Dialect::V5,
        Old => dialect == Dialect::V1,
    }
}

/// Reads every match field that is present, normalised: numbers as numbers, MACs and UUIDs in lower case.
pub(crate) fn read(body: &Body, view: &Rendering) -> Result<BTreeMap<String, Value>, Refusal> {
    let mut checks = Checks::default();
    let mut fields = BTreeMap::new();
    for (name, shape, since) in FIELDS {
        if known(*since, view.dialect, view.version)
            && let Some(value) = read_one(body, view.dialect, name, *shape, &mut checks)?
        {
            fields.insert((*name).to_owned(), value);
        }
    }
    checks.finish()?;
    Ok(fields)
}

fn read_one(
    body: &Body,
    dialect: Dialect,
    name: &str,
    shape: Shape,
    checks: &mut Checks,
) -> Result<Option<Value>, Refusal> {
    Ok(match shape {
        // A flag that is down is an absent flag.
        Flag => body.flag(name)?.filter(|flag| *flag).map(Value::from),
        Id => body.uuid(name)?.map(|id| json!(id)),
        Ids => Some(body.uuids(name)?).filter(|ids| !ids.is_empty()).map(|ids| json!(ids)),
        Int(least, most) | Sentinel(least, most) => {
            let number = body.int(name)?;
            if number.is_some_and(|number| !(least..=most).contains(&number)) {
                checks.wrong(name, format!("must be between {least} and {most}"));
            }
            let unset = matches!(shape, Sentinel(..)) && dialect == Dialect::V1;
            number.filter(|number| !unset || *number != 0).map(Value::from)
        }
        Mac => match body.mac(name)? {
            Some(Err(())) => {
                checks.wrong(name, BAD_MAC);
                None
            }
            mac => mac.and_then(Result::ok).map(|mac| json!(mac)),
        },
        Mask => body.text(name)?.map(|text| text.to_lowercase()).and_then(|text| {
            let well = text.split('.').filter(|word| word.len() == 4 && word.bytes().all(|b| b.is_ascii_hexdigit()));
            if well.count() == 3 && text.len() == 14 {
                return Some(Value::from(text));
            }
            checks.wrong(name, BAD_MASK);
            None
        }),
        Address => match body.ipv4(name)? {
            Some(Err(())) => {
                checks.wrong(name, BAD_ADDRESS);
                None
            }
            address => address.and_then(Result::ok).map(|address| json!(address)),
        },
        Ports => match body.raw(name) {
            None => None,
            Some(value) => read_range(value, dialect, name, checks)?,
        },
        Text => body.text(name)?.map(Value::from),
        Texts => body.raw(name).filter(|value| value.is_object()).cloned(),
    })
}

fn read_range(value: &Value, dialect: Dialect, name: &str, checks: &mut Checks) -> Result<Option<Value>, Refusal> {
    let range = Body::nested(value, dialect)?;
    let (start, end) = (range.int("start")?, range.int("end")?);
    if [start, end].into_iter().flatten().any(|port| !(0..=65535).contains(&port)) {
        checks.wrong(name, "must be between 0 and 65535");
    }
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        checks.wrong(name, "start must not be greater than end");
    }
    // A range without bounds matches every port: it is no condition.
    Ok((start.is_some() || end.is_some()).then(|| json!({ "start": start, "end": end })))
}

/// Every field that this version knows, with the value of "absent" where it is absent.
pub(crate) fn show(fields: &BTreeMap<String, Value>, view: &Rendering) -> Map<String, Value> {
    FIELDS
        .iter()
        .filter(|(_, _, since)| known(*since, view.dialect, view.version))
        .map(|(name, shape, _)| {
            let value = fields.get(*name).cloned().unwrap_or(match shape {
                Flag => json!(false),
                Sentinel(..) if view.dialect == Dialect::V1 => json!(0),
                // Primitive numbers: an address decides whether a length means anything.
                Int(0, 32) => json!(0),
                _ => Value::Null,
            });
            ((*name).to_owned(), value)
        })
        .collect()
}

/// A UUID that a field holds.
pub(crate) fn id(fields: &BTreeMap<String, Value>, name: &str) -> Option<uuid::Uuid> {
    fields.get(name).and_then(Value::as_str).and_then(parse_uuid)
}

/// The UUIDs that a field lists.
pub(crate) fn ids(fields: &BTreeMap<String, Value>, name: &str) -> Vec<uuid::Uuid> {
    let list = fields.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).filter_map(parse_uuid).collect()
}

/// Every field with a value that is not the one of "absent".
#[cfg(test)]
pub(crate) fn examples() -> Vec<(&'static str, Value)> {
    let value = |shape: &Shape| match shape {
        Flag => json!(true),
        Id => json!(uuid::Uuid::from_u128(1)),
        Ids => json!([uuid::Uuid::from_u128(1)]),
        Int(least, most) | Sentinel(least, most) => json!((least + most) / 2),
        Mac => json!("02:00:00:00:00:01"),
        Mask => json!("ffff.0000.0000"),
        Address => json!("10.0.0.1"),
        Ports => json!({ "start": 1, "end": 2 }),
        Text => json!("text"),
        Texts => json!({ "key": "text" }),
    };
    FIELDS.iter().map(|(name, shape, _)| (*name, value(shape))).collect()
}
