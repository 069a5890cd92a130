//! The port that has each interface of a router namespace. The first port that is bound to it keeps it; others wait.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

/// Name and namespace of an interface.
type Interface = (String, Uuid);

/// The holder of each bound interface, and the ports that wait for it.
#[derive(Default)]
pub(super) struct Bound {
    holders: BTreeMap<Interface, Uuid>,
    waiting: BTreeMap<Interface, BTreeSet<Uuid>>,
    /// What each port holds or waits for.
    asked: BTreeMap<Uuid, Interface>,
}

impl Bound {
    /// The port that has this interface.
    pub(super) fn holder(&self, namespace: Uuid, name: &str) -> Option<Uuid> {
        self.holders.get(&(name.to_owned(), namespace)).copied()
    }

    /// Ports that have an interface of this name, in any namespace.
    pub(super) fn holders(&self, name: &str) -> impl Iterator<Item = Uuid> {
        let first = (name.to_owned(), Uuid::nil());
        let named = self.holders.range(first..).take_while(move |((other, _), _)| other == name);
        named.map(|(_, port)| *port).collect::<Vec<_>>().into_iter()
    }

    /// Binds the interface to `port`, or lets `port` wait for it; returns the holder.
    pub(super) fn take(&mut self, port: Uuid, namespace: Uuid, name: &str) -> Uuid {
        let interface = (name.to_owned(), namespace);
        let holder = *self.holders.entry(interface.clone()).or_insert(port);
        if holder != port {
            self.waiting.entry(interface.clone()).or_default().insert(port);
        }
        self.asked.insert(port, interface);
        holder
    }

    /// Releases the interface of `port`, unless it is `now`. Returns the port that waits for it and may bind it now.
    pub(super) fn release(&mut self, port: Uuid, now: Option<(Uuid, &str)>) -> Option<Uuid> {
        let interface = self.asked.get(&port)?.clone();
        if now.is_some_and(|(namespace, name)| (name, namespace) == (interface.0.as_str(), interface.1)) {
            return None;
        }
        self.asked.remove(&port);
        let waiting = self.waiting.get_mut(&interface);
        if self.holders.get(&interface) != Some(&port) {
            if let Some(waiting) = waiting {
                waiting.remove(&port);
                if waiting.is_empty() {
                    self.waiting.remove(&interface);
                }
            }
            return None;
        }
        self.holders.remove(&interface);
        let next = waiting.and_then(BTreeSet::pop_first);
        if self.waiting.get(&interface).is_some_and(BTreeSet::is_empty) {
            self.waiting.remove(&interface);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_port_keeps_an_interface_and_the_next_one_waits() {
        let (namespace, [a, b, c]) = (Uuid::from_u128(9), [1, 2, 3].map(Uuid::from_u128));
        let mut bound = Bound::default();
        assert_eq!([b, a, c].map(|port| bound.take(port, namespace, "eth0")), [b, b, b]);
        assert_eq!(bound.take(a, namespace, "eth0"), b, "a second call changes nothing");
        assert_eq!(bound.release(b, Some((namespace, "eth0"))), None, "it still wants it");
        assert_eq!(bound.release(c, None), None, "it only waited");
        assert_eq!(bound.release(b, Some((namespace, "eth1"))), Some(a));
        assert_eq!(bound.take(b, namespace, "eth1"), b);
        assert_eq!(bound.take(a, namespace, "eth0"), a);
        assert_eq!(bound.holders("eth0").collect::<Vec<_>>(), [a]);
        assert_eq!(bound.holder(namespace, "eth1"), Some(b));
        assert_eq!(bound.release(a, None), None);
        assert_eq!(bound.release(b, None), None);
        assert!(bound.holders.is_empty() && bound.waiting.is_empty() && bound.asked.is_empty());
    }
}
