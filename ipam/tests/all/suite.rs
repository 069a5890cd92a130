//! Runs every test of a list with the store in memory and with a real etcd: both have the same guarantees.
//!
//! Each test is a function of a store, in the file that names it; `server` is there, too.

macro_rules! suite {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(atoll_testkit::store::MemoryStore::new()).await;
            })*
        }
        mod etcd {
            $(#[tokio::test]
            async fn $name() {
                let server = atoll_testkit::etcd::EtcdServer::start().await;
                super::$name(server.store()).await;
            })*
        }
    };
}
