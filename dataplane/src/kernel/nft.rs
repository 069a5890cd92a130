//! The packet filter of one namespace.
//!
//! Structure (tables, chains, rules) is loaded by the program `nft`: one readable text, one transaction. Elements of sets change
//! with every pod, so they are sent to the kernel by nfnetlink: starting a program costs more than everything else that a
//! port needs. Layouts: `include/uapi/linux/netfilter/nf_tables.h`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use atoll_node::netlink::nfnetlink::{CREATE, DUMP, IPV4, REQUEST, attribute, name, put, text, walk};
use atoll_node::netlink::nfnetlink_socket::{NfnetlinkChange, NfnetlinkSocket};
use nix::errno::Errno;
use uuid::Uuid;

use super::element::{TABLE, decode, encode};
use super::netns::OpenNetns;
use super::steps::step;
use crate::compile::table::{COMMENT, Family, GROUP_SET, RulesetVersion};
use crate::compile::{Element, NftSet, Ruleset, Stage};
use crate::counters::{Count, Counted};
use crate::error::PlaneError;

/// The number of the family `bridge` (`NFPROTO_BRIDGE`).
const BRIDGE: u8 = 7;

const SUBSYSTEM: u16 = 10;
pub(super) const GET_RULE: u16 = 7;
pub(super) const GET_SET: u16 = 10;
const NEW_ELEMENT: u16 = 12;
pub(super) const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
const GET_GENERATION: u16 = 16;

/// Both tables of a router namespace.
const TABLES: [(Family, &str); 2] = [(Family::Ip, TABLE), (Family::Bridge, TABLE)];

/// All sets whose elements change while the ruleset stays.
pub(super) fn sets() -> impl Iterator<Item = NftSet> {
    [NftSet::AllowedSources, NftSet::ArpSenders, NftSet::Open, NftSet::Known, NftSet::HostToPod]
        .into_iter()
        .chain(Stage::ALL.map(NftSet::Stage))
}

/// The kernel's number of a family.
fn number(family: Family) -> u8 {
    match family {
        Family::Ip => IPV4,
        Family::Bridge => BRIDGE,
    }
}

/// A socket to the packet filter of one namespace.
pub(crate) struct Filter {
    socket: NfnetlinkSocket,
    /// The kernel's count of transactions after our last one: another value means that another process wrote.
    last: Option<u32>,
    /// The text that was loaded last.
    loaded: Option<String>,
    /// The elements that are listed.
    listed: BTreeSet<Element>,
    /// Counts of rules that have no statement in the filter at the moment.
    idle: BTreeMap<Uuid, Count>,
}

impl Filter {
    /// Opens a socket in `netns`.
    pub(crate) fn open(netns: &OpenNetns) -> Result<Self, PlaneError> {
        netns.run(|| {
            Ok(Self {
                socket: NfnetlinkSocket::here(SUBSYSTEM)?,
                last: None,
                loaded: None,
                listed: BTreeSet::new(),
                idle: BTreeMap::new(),
            })
        })
    }

    /// Makes the filter match `ruleset` with exactly these elements; returns the number of changes.
    pub(crate) fn ensure(
        &mut self,
        netns: &OpenNetns,
        ruleset: &Ruleset,
        elements: &BTreeSet<Element>,
    ) -> Result<usize, PlaneError> {
        let mut known = self.untouched()? && self.loaded.as_ref() == Some(&ruleset.id);
        if self.last.is_none() && self.matches_checksum(&TABLES, &ruleset.id)? {
            // After a restart the loaded ruleset is unchanged; only elements may differ.
            self.listed = self.elements()?;
            known = true;
        }
        if known {
            let add: Vec<_> = elements.difference(&self.listed).cloned().collect();
            let remove: Vec<_> = self.listed.difference(elements).cloned().collect();
            self.change(&add, &remove)?;
            self.trust()?;
            self.loaded = Some(ruleset.id.clone());
            return Ok(add.len() + remove.len());
        }
        self.replace(netns, ruleset, elements)?;
        self.loaded = Some(ruleset.id.clone());
        self.listed.clone_from(elements);
        Ok(1)
    }

    /// True if no other process has written since our last transaction.
    pub(crate) fn untouched(&mut self) -> Result<bool, PlaneError> {
        let now = self.generation()?;
        Ok(self.last == Some(now))
    }

    /// Notes that the loaded filter matches.
    fn trust(&mut self) -> Result<(), PlaneError> {
        self.last = Some(self.generation()?);
        Ok(())
    }

    /// Drops the counts of all other rules.
    pub(crate) fn forget(&mut self, rules: &BTreeSet<Uuid>) {
        self.idle.retain(|id, _| rules.contains(id));
    }

    /// The counts, including those of earlier filters.
    pub(crate) fn counters(&mut self) -> Result<Counted, PlaneError> {
        let mut counted = Counted { rules: self.idle.clone(), ..Counted::default() };
        for family in [Family::Bridge, Family::Ip] {
            let mut table = Vec::new();
            put(&mut table, 1, &name(TABLE));
            for rule in self.dump(family, GET_RULE, &table).map_err(fail("list rules"))? {
                let count = walk(attribute(&rule, 4).unwrap_or_default()).find_map(|(_, it)| counter(it));
                counted.met(attribute(&rule, 7).and_then(whose), count);
            }
            for set in self.dump(family, GET_SET, &table).map_err(fail("list sets"))? {
                let Some(group) = text(attribute(&set, 2)).filter(|name| name.starts_with(GROUP_SET)) else { continue };
                self.each_element(family, group, |element| {
                    counted.met(attribute(element, 6).and_then(whose), attribute(element, 7).and_then(counter));
                })?;
            }
        }
        self.each_element(Family::Bridge, "refused", |element| {
            if let Some(Element { interface, .. }) = decode(NftSet::Open, element)
                && let Some(count) = attribute(element, 7).and_then(counter)
            {
                *counted.refused.entry(interface).or_default() += count;
            }
        })?;
        Ok(counted)
    }

    /// Replaces both tables, with these elements.
    fn replace(
        &mut self,
        netns: &OpenNetns,
        ruleset: &Ruleset,
        elements: &BTreeSet<Element>,
    ) -> Result<(), PlaneError> {
        // Counts of rules without a statement, once the text with all others is loaded.
        let mut idle = None;
        self.swap(netns, &TABLES, |filter, version| {
            filter.idle = idle.take().unwrap_or_else(|| std::mem::take(&mut filter.idle));
            // New counters start with the final values of the old ones.
            let mut counted = filter.counters()?;
            let text = script(ruleset, version, elements, &mut counted);
            idle = Some(counted.rules);
            Ok(text)
        })?;
        self.idle = idle.unwrap_or_default();
        self.write_checksum(&TABLES)?;
        self.trust()
    }

    /// Adds and removes elements in one transaction.
    pub(crate) fn change(&mut self, add: &[Element], remove: &[Element]) -> Result<(), PlaneError> {
        if add.is_empty() && remove.is_empty() {
            return Ok(());
        }
        let untouched = self.untouched()?;
        match self.batch(add, remove) {
            // If one element is absent, the kernel refuses the whole transaction. They are removed one by one then.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) && !remove.is_empty() => {
                for element in remove {
                    match self.batch(&[], std::slice::from_ref(element)) {
                        Err(error) if error.raw_os_error() != Some(Errno::ENOENT as i32) => {
                            return Err(fail("remove an element")(error));
                        }
                        _ => {}
                    }
                }
                self.batch(add, &[]).map_err(fail("add elements"))?;
            }
            other => other.map_err(fail("change elements"))?,
        }
        self.listed.retain(|element| !remove.contains(element));
        self.listed.extend(add.iter().cloned());
        if untouched {
            self.trust()?;
        }
        Ok(())
    }

    /// The listed elements, which the kernel still has after a restart of this process.
    pub(crate) fn elements(&mut self) -> Result<BTreeSet<Element>, PlaneError> {
        let mut elements = BTreeSet::new();
        for set in sets() {
            self.each_element(set.family(), set.name(), |element| elements.extend(decode(set, element)))?;
        }
        Ok(elements)
    }

    /// Passes each element of a set of our table to `take`.
    fn each_element(&mut self, family: Family, set: &str, mut see: impl FnMut(&[u8])) -> Result<(), PlaneError> {
        let mut attributes = Vec::new();
        put(&mut attributes, 1, &name(TABLE));
        put(&mut attributes, 2, &name(set));
        for message in self.dump(family, GET_ELEMENT, &attributes).map_err(fail("list elements"))? {
            walk(attribute(&message, 3).unwrap_or_default()).for_each(|(_, element)| see(element));
        }
        Ok(())
    }

    fn generation(&mut self) -> Result<u32, PlaneError> {
        let answers = self.socket.request(0, GET_GENERATION, REQUEST, &[]).map_err(fail("read the generation"))?;
        let id = answers.first().and_then(|answer| attribute(answer, 1)).and_then(|id| id.try_into().ok());
        Ok(u32::from_be_bytes(id.unwrap_or_default()))
    }

    fn batch(&mut self, add: &[Element], remove: &[Element]) -> io::Result<()> {
        let removed = remove.iter().map(|element| (DELETE_ELEMENT, element));
        let requests = removed.chain(add.iter().map(|element| (NEW_ELEMENT, element)));
        let requests = requests.map(|(kind, element)| (element.set.family(), kind, encode(element)));
        let texts = |elements: &[Element]| elements.iter().map(Element::text).collect::<Vec<_>>().join(", ");
        let what = format!("elements of the filter: add {}; remove {}", texts(add), texts(remove));
        self.transaction(&what, requests.collect())
    }

    /// Makes changes, of a family and a kind each, in one transaction.
    pub(super) fn transaction(&mut self, what: &str, requests: Vec<(Family, u16, Vec<u8>)>) -> io::Result<()> {
        step(what)?;
        let change = |(family, kind, attributes)| {
            let flags = if kind == DELETE_ELEMENT { 0 } else { CREATE };
            NfnetlinkChange { family: number(family), kind, flags, attributes }
        };
        self.socket.transaction(requests.into_iter().map(change).collect())
    }

    /// A list. A table that does not exist lists nothing.
    pub(super) fn dump(&mut self, family: Family, kind: u16, attributes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        match self.socket.request(number(family), kind, REQUEST | DUMP, attributes) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(Vec::new()),
            other => other,
        }
    }
}

/// The text of both tables with these elements. Counts of their statements are moved from `counted` to the text.
fn script(ruleset: &Ruleset, version: RulesetVersion, elements: &BTreeSet<Element>, counted: &mut Counted) -> String {
    let mut script = ruleset.loaded(version, &mut counted.rules);
    let table = version.table(TABLE);
    for set in sets() {
        let of_set: Vec<_> = elements.iter().filter(|e| e.set == set).map(Element::text).collect();
        if !of_set.is_empty() {
            let (family, name) = (set.family().name(), set.name());
            let line = format!("add element {family} {table} {name} {{ {} }}\n", of_set.join(", "));
            script.push_str(&line);
        }
    }
    let interfaces: BTreeSet<_> = elements.iter().map(|element| element.interface.as_str()).collect();
    for (interface, Count { packets, bytes }) in &counted.refused {
        if interfaces.contains(interface.as_str()) {
            let count = format!("\"{interface}\" counter packets {packets} bytes {bytes}");
            let line = ["add element bridge ", &table, " refused { ", &count, " }\n"].concat();
            script.push_str(&line);
        }
    }
    script
}

/// The rule that a comment names. Comments of rules and elements (`NFTA_RULE_USERDATA`, `NFTA_SET_ELEM_USERDATA`) have
/// type 0, a length and a text.
fn whose(data: &[u8]) -> Option<Uuid> {
    let length = usize::from(*data.get(1).filter(|_| data.first() == Some(&0))?);
    Uuid::try_parse(text(data.get(2..2 + length))?.strip_prefix(COMMENT)?).ok()
}

/// Reads an expression, if it is a counter.
fn counter(expression: &[u8]) -> Option<Count> {
    let data = attribute(expression, 2).filter(|_| text(attribute(expression, 1)) == Some("counter"))?;
    let number = |kind| Some(u64::from_be_bytes(attribute(data, kind)?.try_into().ok()?));
    Some(Count { packets: number(2)?, bytes: number(1)? })
}

/// Runs `nft` on a script in the calling thread's namespace; the inner error is its own message.
pub(crate) fn run_nft(script: &str) -> io::Result<Result<(), String>> {
    if let Err(error) = step("load the filter") {
        return if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) {
            Ok(Err(error.to_string()))
        } else {
            Err(error)
        };
    }
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        // A Ctrl-C at the terminal must end this program only, which then ends `nft` in order.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let error = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
    Ok(if output.status.success() { Ok(()) } else { Err(error) })
}

pub(super) fn fail(what: &'static str) -> impl Fn(io::Error) -> PlaneError {
    move |source| PlaneError::Netlink { what: format!("packet filter: {what}"), source }
}
