//! What a caller requests for its interface, from the places where CNI has it.
//!
//! | what | source, in order of precedence | and merged with |
//! |---|---|---|
//! | addresses | `args.cni.ips`; `CNI_ARGS` `IP` | `runtimeConfig.ips` |
//! | addresses, if none of these | annotation `atoll.dev/ips.<interface>`; `atoll.dev/ips` | |
//! | MAC | `args.cni.mac`; `CNI_ARGS` `MAC`; `runtimeConfig.mac`; annotation `atoll.dev/mac.<interface>`; `atoll.dev/mac` | |
//! | subnet | annotation `atoll.dev/subnet.<interface>`; `atoll.dev/subnet`; `subnet` of the configuration | |
//!
//! A source that is about this call alone comes first (CNI CONVENTIONS: `args` replaces its equivalent in `CNI_ARGS`; the
//! reference plugins merge the rest). Annotations are about the pod, so the annotation of one interface comes before that of
//! all interfaces.
//!
//! # Guarantees
//! A request is parsed exactly, or refused with its source and value, even if another source has precedence.

use std::net::IpAddr;
use std::str::FromStr;

use serde_json::Value;

use super::request::{Request, RequestError, any_case};
use crate::address_request::{AddressRequest, SubnetChoice};
use crate::attachment::Mac;
use crate::config::Config;

/// The capability by which containerd and CRI-O pass on a pod's annotations.
pub(super) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

impl Request {
    /// The request for the interface.
    pub fn address_request(&self, config: &Config) -> Result<AddressRequest, RequestError> {
        let cni = self.input("args").and_then(|args| any_case(args, "cni"));
        let argument = |key| self.argument(key);
        let addresses = [
            texts("args.cni.ips", cni.and_then(|cni| any_case(cni, "ips")))?.map(|list| ("args.cni.ips", list)),
            argument("IP")?.map(|text| ("CNI_ARGS IP", split(text))),
            texts("runtimeConfig.ips", self.runtime("ips"))?.map(|list| ("runtimeConfig.ips", list)),
        ];
        let [args, arguments, runtime] = addresses.map(|place| place.map(|(key, list)| all_addresses(key, &list)));
        // Every place is read before one is preferred: what is malformed is refused wherever it stands.
        let (args, arguments, runtime) = (args.transpose()?, arguments.transpose()?, runtime.transpose()?);
        let annotated = self.annotation("ips", |key, text| all_addresses(key, &split(text)))?;
        let mut requested = args.or(arguments).unwrap_or_default();
        requested.extend(runtime.unwrap_or_default());
        let mut addresses = Vec::new();
        for address in if requested.is_empty() { annotated.unwrap_or_default() } else { requested } {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        self.refuse_unknown_annotations()?;
        Ok(AddressRequest {
            addresses,
            mac: self.requested_mac(cni)?,
            subnet: self.annotation("subnet", parsed::<SubnetChoice>)?.or(config.subnet),
        })
    }

    fn requested_mac(&self, cni: Option<&Value>) -> Result<Option<Mac>, RequestError> {
        let in_args = text("args.cni.mac", cni.and_then(|cni| any_case(cni, "mac")))?;
        let in_arguments = self.argument("MAC")?;
        let in_runtime = text("runtimeConfig.mac", self.runtime("mac"))?;
        let read = |key: &str, text: Option<&str>| text.map(|text| unicast(key, text)).transpose();
        let given = [
            read("args.cni.mac", in_args)?,
            read("CNI_ARGS MAC", in_arguments)?,
            read("runtimeConfig.mac", in_runtime)?,
            self.annotation("mac", unicast)?,
        ];
        Ok(given.into_iter().flatten().next())
    }

    /// An annotation under our name that means nothing is an address request that was mistyped.
    fn refuse_unknown_annotations(&self) -> Result<(), RequestError> {
        let annotations = self.runtime(ANNOTATIONS).and_then(Value::as_object);
        for (key, value) in annotations.into_iter().flatten() {
            let Some(name) = key.strip_prefix("atoll.dev/") else { continue };
            let name = name.split_once('.').map_or(name, |(name, _)| name);
            if !["ips", "mac", "subnet"].contains(&name) {
                let expected =
                    "no other annotation under atoll.dev/ than ips, mac or subnet, each also with \".<interface>\"";
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                return Err(wrong(&format!("annotation {key}"), &value, expected));
            }
        }
        Ok(())
    }

    /// A non-empty pair of `CNI_ARGS`.
    fn argument(&self, key: &str) -> Result<Option<&str>, RequestError> {
        let args = self.args()?;
        Ok(args.into_iter().find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value))
    }

    /// An annotation of this interface, else one of all interfaces.
    fn annotation<T>(
        &self,
        name: &str,
        read: impl Fn(&str, &str) -> Result<T, RequestError>,
    ) -> Result<Option<T>, RequestError> {
        let Some(annotations) = self.runtime(ANNOTATIONS) else { return Ok(None) };
        let Some(annotations) = annotations.as_object() else {
            return Err(RequestError::Shape("runtimeConfig.io.kubernetes.cri.pod-annotations", "an object of texts"));
        };
        let interface = self.environment.interface.as_ref().map(|interface| format!("atoll.dev/{name}.{interface}"));
        for key in interface.into_iter().chain([format!("atoll.dev/{name}")]) {
            let place = format!("annotation {key}");
            if let Some(text) = text(&place, annotations.get(&key))? {
                return read(&place, text.trim()).map(Some);
            }
        }
        Ok(None)
    }
}

fn wrong(key: &str, value: &(impl ToString + ?Sized), expected: &'static str) -> RequestError {
    let value: String = value.to_string().chars().take(80).collect();
    // A fault in the environment has another code than one on standard input.
    if key.starts_with("CNI_ARGS") {
        RequestError::InvalidArgument { key: key.to_owned(), value, expected }
    } else {
        RequestError::AddressRequest { key: key.to_owned(), value, expected }
    }
}

/// A text; the empty one and `null` count as absent.
fn text<'a>(key: &str, value: Option<&'a Value>) -> Result<Option<&'a str>, RequestError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.trim().is_empty())),
        Some(other) => Err(wrong(key, other, "a text")),
    }
}

/// A list of texts; the empty one and `null` count as absent.
fn texts<'a>(key: &str, value: Option<&'a Value>) -> Result<Option<Vec<&'a str>>, RequestError> {
    const EXPECTED: &str = "a list of addresses";
    let list = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong(key, other, EXPECTED)),
    };
    let texts = list.iter().map(|item| item.as_str().ok_or_else(|| wrong(key, item, EXPECTED)));
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    Ok(Some(texts).filter(|texts| !texts.is_empty()))
}

/// Several addresses in one text, as annotations and `CNI_ARGS` have them.
fn split(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).collect()
}

fn all_addresses(key: &str, texts: &[&str]) -> Result<Vec<IpAddr>, RequestError> {
    texts.iter().map(|text| address(key, text)).collect()
}

/// An address, with or without a prefix length. The prefix length is that of the subnet in which the address is, so that
/// nothing can be requested by it; it must be one all the same.
fn address(key: &str, text: &str) -> Result<IpAddr, RequestError> {
    const EXPECTED: &str = "an IPv4 or IPv6 address";
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address = address.parse::<IpAddr>().map_err(|_| wrong(key, text, EXPECTED))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if prefix.is_some_and(|prefix| prefix.parse::<u8>().map_or(true, |prefix| prefix > longest)) {
        return Err(wrong(key, text, EXPECTED));
    }
    Ok(address)
}

/// A MAC that an interface can have.
fn unicast(key: &str, text: &str) -> Result<Mac, RequestError> {
    let mac: Mac = text.parse().map_err(|_| wrong(key, text, "a MAC address like \"02:00:5e:10:00:09\""))?;
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(wrong(key, text, "a MAC address of one interface, not of a group"));
    }
    Ok(mac)
}

fn parsed<T: FromStr>(key: &str, text: &str) -> Result<T, RequestError> {
    text.parse()
        .map_err(|_| wrong(key, text, "a subnet: its number (\"2\") or one of its networks (\"10.128.3.0/24\")"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::request::Environment;
    use super::*;
    use crate::error::Classify;

    /// The address request of a call with these arguments and this input.
    fn requested(args: &str, input: &Value) -> Result<AddressRequest, RequestError> {
        let environment = Environment::read(|name| {
            let value = match name {
                "CNI_COMMAND" => "ADD",
                "CNI_CONTAINERID" => "3f9a",
                "CNI_NETNS" => "/n",
                "CNI_IFNAME" => "eth1",
                "CNI_ARGS" => args,
                _ => return None,
            };
            Some(value.into())
        });
        let mut stdin = json!({ "cniVersion": "1.0.0", "name": "net", "etcd": { "endpoints": ["http://127.0.0.1:1"] },
                                "controller": { "endpoints": ["http://127.0.0.1:1/x"] } });
        for (key, value) in input.as_object().into_iter().flatten() {
            stdin[key] = value.clone();
        }
        let request = Request::read(environment.expect("valid").expect("a command"), stdin.to_string().as_bytes())?;
        let config = request.config().expect("valid");
        request.address_request(&config)
    }

    fn annotated(annotations: &Value) -> Value {
        json!({ "runtimeConfig": { ANNOTATIONS: annotations } })
    }

    fn addresses(args: &str, input: &Value) -> Vec<String> {
        requested(args, input).expect("valid").addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_caller_without_a_request_gets_any_address() {
        let nothing = json!({ "args": null, "runtimeConfig": { "ips": [], "mac": "", "IPs": null, ANNOTATIONS: null,
            "portMappings": [{ "HostPort": 1 }], "cgroupPath": "/x", "aliases": { "a": ["b"] }, "ipRanges": [] } });
        for input in [json!({}), nothing, json!({ "args": { "cni": { "ips": null, "labels": [] } } })] {
            assert_eq!(requested("IP=;MAC=;IgnoreUnknown=1", &input).expect("valid"), AddressRequest::default());
        }
        let others = annotated(&json!({ "atoll.dev/ips": " ", "atoll.dev/ips.eth0": "10.0.0.9", "colour": "blue" }));
        assert_eq!(requested("", &others).expect("valid"), AddressRequest::default());
    }

    #[test]
    fn every_place_is_heard_in_its_order() {
        let args = |ips: Value| json!({ "args": { "cni": { "ips": ips } } });
        assert_eq!(addresses("IP=10.0.0.1", &json!({})), ["10.0.0.1"]);
        assert_eq!(addresses("IP=10.0.0.1/24, 10.0.0.2", &json!({})), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(addresses("IP=10.0.0.1", &args(json!(["10.0.0.3"]))), ["10.0.0.3"], "args replaces CNI_ARGS");
        let mut both = args(json!(["10.0.0.3"]));
        both["runtimeConfig"] = json!({ "IPs": ["10.0.0.4/24", "10.0.0.3"],
            ANNOTATIONS: { "atoll.dev/ips": "10.0.0.9" } });
        assert_eq!(addresses("", &both), ["10.0.0.3", "10.0.0.4"], "merged, each once; annotations only else");
        let pod = annotated(&json!({ "atoll.dev/ips": "10.0.0.5,10.0.0.6" }));
        assert_eq!(addresses("", &pod), ["10.0.0.5", "10.0.0.6"]);
        let one = annotated(&json!({ "atoll.dev/ips": "10.0.0.5", "atoll.dev/ips.eth1": "10.0.0.7" }));
        assert_eq!(addresses("", &one), ["10.0.0.7"], "of this interface before of all");
    }

    #[test]
    fn a_mac_is_taken_in_any_case_from_the_first_place_that_has_one() {
        let mac = |args: &str, input: &Value| requested(args, input).expect("valid").mac.map(|mac| mac.to_string());
        let mut input = annotated(&json!({ "atoll.dev/mac": "02:00:00:00:00:04" }));
        assert_eq!(mac("", &input).as_deref(), Some("02:00:00:00:00:04"));
        input["runtimeConfig"]["Mac"] = json!("02:00:00:00:00:03");
        assert_eq!(mac("", &input).as_deref(), Some("02:00:00:00:00:03"));
        assert_eq!(mac("MAC=02:AA:00:00:00:02", &input).as_deref(), Some("02:aa:00:00:00:02"));
        input["args"] = json!({ "cni": { "mac": "02:00:00:00:00:01" } });
        assert_eq!(mac("MAC=02:00:00:00:00:02", &input).as_deref(), Some("02:00:00:00:00:01"));
    }

    #[test]
    fn a_subnet_comes_from_the_pod_before_the_network() {
        let subnet = |input: &Value| requested("", input).expect("valid").subnet.map(|choice| choice.to_string());
        assert_eq!(subnet(&json!({ "subnet": "2" })).as_deref(), Some("subnet 2"));
        let mut both = annotated(&json!({ "atoll.dev/subnet": "10.128.3.0/24" }));
        both["subnet"] = json!("2");
        assert_eq!(subnet(&both).as_deref(), Some("subnet 10.128.3.0/24"));
    }

    #[test]
    fn what_is_malformed_is_refused_with_place_and_value_even_if_it_would_be_ignored() {
        let ips = |ips: Value| json!({ "args": { "cni": { "ips": ips } } });
        let runtime = |key: &str, value: Value| json!({ "runtimeConfig": { key: value } });
        let note = |key: &str, value: &str| annotated(&json!({ key: value }));
        for (args, input, code, place, value) in [
            ("IP=10.0.0", json!({}), 4, "CNI_ARGS IP", "10.0.0"),
            ("IP=10.0.0.1/33", json!({}), 4, "CNI_ARGS IP", "10.0.0.1/33"),
            ("IP=10.0.0.1,", json!({}), 4, "CNI_ARGS IP", ""),
            ("MAC=02:00", json!({}), 4, "CNI_ARGS MAC", "02:00"),
            ("MAC=01:00:00:00:00:01", json!({}), 4, "CNI_ARGS MAC", "01:00"),
            ("MAC=00:00:00:00:00:00", json!({}), 4, "CNI_ARGS MAC", "00:00"),
            ("IP=nonsense", ips(json!(["10.0.0.1"])), 4, "CNI_ARGS IP", "nonsense"),
            ("", ips(json!("10.0.0.1")), 7, "args.cni.ips", "10.0.0.1"),
            ("", ips(json!([7])), 7, "args.cni.ips", "7"),
            ("", ips(json!(["10.0.0.256"])), 7, "args.cni.ips", "10.0.0.256"),
            ("", runtime("ips", json!(["x"])), 7, "runtimeConfig.ips", "x"),
            ("", runtime("MAC", json!(7)), 7, "runtimeConfig.mac", "7"),
            ("", note("atoll.dev/ips", "10.0.0.1 10.0.0.2"), 7, "annotation atoll.dev/ips", "10.0.0.1 10"),
            ("", note("atoll.dev/mac.eth1", "x"), 7, "annotation atoll.dev/mac.eth1", "x"),
            ("", note("atoll.dev/ip", "10.0.0.1"), 7, "annotation atoll.dev/ip", "10.0.0.1"),
            ("", note("atoll.dev/macs.eth1", "x"), 7, "annotation atoll.dev/macs.eth1", "x"),
            ("", note("atoll.dev/subnet", "10.0.0.1/24"), 7, "annotation atoll.dev/subnet", "10.0.0.1/24"),
            ("IP=fd00::1/129", json!({}), 4, "CNI_ARGS IP", "fd00::1/129"),
            ("", runtime("ips", json!(["fd00:::1/64"])), 7, "runtimeConfig.ips", "fd00:::1/64"),
        ] {
            let error = requested(args, &input).expect_err(place);
            assert_eq!(error.class().cni_code(), code, "{error}");
            assert!(error.to_string().contains(place) && error.to_string().contains(value), "{error}");
        }
        let error = requested("", &runtime(ANNOTATIONS, json!(["a"]))).expect_err("no object");
        assert!(error.to_string().contains("pod-annotations"), "{error}");
    }
}
