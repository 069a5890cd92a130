//! The ruleset checksum: what the kernel shows of a loaded ruleset is hashed, and the hash is stored in the kernel as the name
//! of an empty chain.
//!
//! By it, a process that starts detects changes of other programs. The hash covers rules, chains, flags of tables and chains,
//! and elements of the text; it does not cover handles, counters and elements of pods.

use atoll_node::netlink::nfnetlink::{attribute, name, put, text, walk};
use uuid::Uuid;

use super::nft::{Filter, GET_ELEMENT, GET_RULE, GET_SET, fail, sets};
use crate::compile::priorities::read_id_chain;
use crate::compile::table::Family;
use crate::error::PlaneError;

const GET_TABLE: u16 = 1;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;

/// The prefix of the chain's name.
const CHECKSUM_CHAIN: &str = "checksum_";

/// Sets without a name of their own cannot be changed; those that packets write to are no part of the text
/// (`NFT_SET_ANONYMOUS`, `NFT_SET_EVAL`).
const UNSEEN_SETS: u32 = 0x1 | 0x20;

impl Filter {
    /// True if these tables have not changed since they were checksummed and were loaded from this text, at any step.
    pub(super) fn matches_checksum(&mut self, tables: &[(Family, &str)], generation: &str) -> Result<bool, PlaneError> {
        let checksum = self.checksum_of(tables)?;
        for (place, (family, table)) in tables.iter().enumerate() {
            let chains = self.chains(*family, table)?;
            if !chains.iter().any(|chain| read_id_chain(chain).is_some_and(|(of, _)| of == generation))
                || (place == 0 && !chains.contains(&checksum))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Stores the checksum of these tables in the first of them.
    pub(super) fn write_checksum(&mut self, tables: &[(Family, &str)]) -> Result<(), PlaneError> {
        let Some((family, table)) = tables.first() else { return Ok(()) };
        let checksum = self.checksum_of(tables)?;
        let mut attributes = Vec::new();
        put(&mut attributes, 1, &name(table));
        put(&mut attributes, 3, &name(&checksum));
        self.transaction("checksum the filter", vec![(*family, NEW_CHAIN, attributes)])
            .map_err(fail("checksum the tables"))
    }

    /// The names of a table's chains.
    pub(super) fn chains(&mut self, family: Family, table: &str) -> Result<Vec<String>, PlaneError> {
        let chains = self.dump(family, GET_CHAIN, &[]).map_err(fail("list chains"))?;
        let of_table = chains.iter().filter(|chain| text(attribute(chain, 1)) == Some(table));
        Ok(of_table.filter_map(|chain| text(attribute(chain, 3)).map(str::to_owned)).collect())
    }

    fn checksum_of(&mut self, tables: &[(Family, &str)]) -> Result<String, PlaneError> {
        let mut content = Vec::new();
        for (family, table) in tables {
            self.content(*family, table, &mut content).map_err(fail("list what is loaded"))?;
        }
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, &content).simple().to_string();
        Ok(format!("{CHECKSUM_CHAIN}{}", &hash[..12]))
    }

    fn content(&mut self, family: Family, table: &str, content: &mut Vec<u8>) -> std::io::Result<()> {
        let mut of_table = Vec::new();
        put(&mut of_table, 1, &name(table));
        let mine = |message: &Vec<u8>| text(attribute(message, 1)) == Some(table);
        // Name and flags: a table can be dormant.
        for message in self.dump(family, GET_TABLE, &[])?.iter().filter(|it| mine(it)) {
            keep(message, &[1, 2], content);
        }
        // Table, name, hook, policy, type, flags.
        for message in self.dump(family, GET_CHAIN, &[])?.iter().filter(|it| mine(it)) {
            if !text(attribute(message, 3)).unwrap_or_default().starts_with(CHECKSUM_CHAIN) {
                keep(message, &[1, 3, 4, 5, 7, 10], content);
            }
        }
        // Table, chain, comment; and expressions, whatever they have counted.
        for message in self.dump(family, GET_RULE, &of_table)?.iter().filter(|it| mine(it)) {
            keep(message, &[1, 2, 7], content);
            for (_, expression) in walk(attribute(message, 4).unwrap_or_default()) {
                let counts = text(attribute(expression, 1)) == Some("counter");
                keep(expression, if counts { &[1] } else { &[1, 2] }, content);
            }
        }
        let mut named = Vec::new();
        for message in self.dump(family, GET_SET, &of_table)?.iter().filter(|it| mine(it)) {
            // Table, name, flags, types and lengths of key and data, bounds, timeout.
            keep(message, &[1, 2, 3, 4, 5, 6, 7, 9, 11], content);
            let flags = attribute(message, 3).and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_be_bytes);
            let name = text(attribute(message, 2)).unwrap_or_default();
            if flags & UNSEEN_SETS == 0 && !sets().any(|set| set.name() == name) {
                named.push(name.to_owned());
            }
        }
        for set in named {
            let mut attributes = of_table.clone();
            put(&mut attributes, 2, &name(&set));
            let mut elements = Vec::new();
            for message in &self.dump(family, GET_ELEMENT, &attributes)? {
                for (_, element) in walk(attribute(message, 3).unwrap_or_default()) {
                    let mut kept = Vec::new();
                    // Key, data, flags, end of an interval.
                    keep(element, &[1, 2, 3, 10], &mut kept);
                    elements.push(kept);
                }
            }
            // The kernel lists them in the order of a hash.
            elements.sort();
            content.extend(elements.concat());
        }
        Ok(())
    }
}

/// Appends these attributes of a message.
fn keep(message: &[u8], kinds: &[u16], content: &mut Vec<u8>) {
    for (kind, value) in walk(message).filter(|(kind, _)| kinds.contains(kind)) {
        put(content, kind, value);
    }
}
