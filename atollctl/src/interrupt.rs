//! A signal that ends a command in the middle: what it had done by then, what remains, and how to go on.
//!
//! SIGINT, SIGTERM and SIGHUP end the command at once, wherever it is, as a crash would: every change of ours can be cut
//! off at any point and goes on from there. A thread of its own receives the signals, so that a command that waits for a
//! file or for standard input ends too. A signal that was ignored when the program started stays ignored (`nohup`).

use std::io;
use std::path::Path;
use std::sync::Mutex;

use atoll_node::files::{TEXT, print, read};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Address, Args, Attachment, Command, Subnet, Tenant};

/// What the running command has done, in its own words.
static DONE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes what the command has done, for the case that it is interrupted.
pub(crate) fn note(done: impl Into<String>) {
    if let Ok(mut all) = DONE.lock() {
        all.push(done.into());
    }
}

/// From now on a signal ends the process and says so.
pub(crate) fn receive(args: &Args) -> io::Result<()> {
    let remains = remains(&args.command);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ignored = ignored();
    let inside = runtime.enter();
    let listen = |kind: SignalKind| {
        let bit = u32::try_from(kind.as_raw_value() - 1).unwrap_or(u32::MAX);
        let is_ignored = ignored.checked_shr(bit).is_some_and(|mask| mask & 1 == 1);
        (!is_ignored).then(|| signal(kind)).transpose()
    };
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    drop(inside);
    let follow = async move {
        let number = tokio::select! {
            Some(()) = next(&mut interrupt) => SignalKind::interrupt(),
            Some(()) = next(&mut terminate) => SignalKind::terminate(),
            Some(()) = next(&mut hangup) => SignalKind::hangup(),
            else => return,
        };
        let done = DONE.lock().map(|done| done.clone()).unwrap_or_default();
        print::say(&words(&done, remains.as_deref()));
        #[expect(
            clippy::disallowed_methods,
            clippy::exit,
            reason = "the command may wait for something that no signal reaches"
        )]
        std::process::exit(128 + number.as_raw_value());
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(follow))?;
    Ok(())
}

async fn next(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// The signals that are ignored, as the kernel shows them: the lowest bit is signal 1 (proc(5), `SigIgn`).
fn ignored() -> u64 {
    let status = read::text(Path::new("/proc/self/status"), TEXT).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn words(done: &[String], remains: Option<&str>) -> String {
    let Some(remains) = remains else { return "interrupted: nothing was changed\n".to_owned() };
    let done = done.iter().fold(String::new(), |text, done| format!("{text}  done: {done}\n"));
    format!("interrupted in the middle; a request that was on its way may still take effect\n{done}  try: {remains}\n")
}

/// How to go on after a command that changes something; none: it changes nothing.
fn remains(command: &Command) -> Option<String> {
    let again = "the same command goes on from here";
    let seen = |tenant: &dyn std::fmt::Display| {
        format!("`atollctl tenant plan {tenant}` shows what is missing, `atollctl tenant repair {tenant}` makes it")
    };
    let (dry_run, words) = match command {
        Command::Topology(_)
        | Command::Doctor(_)
        | Command::Completion { .. }
        | Command::Tenant(Tenant::List | Tenant::Show(_) | Tenant::Plan { .. })
        | Command::Subnet(Subnet::List { .. })
        | Command::Attachment(Attachment::List(_) | Attachment::Show(_))
        | Command::Address(Address::List { .. }) => return None,
        Command::Init(options) => (options.dry_run, format!("{again}; `--dry-run` shows what it would do")),
        Command::Install(options) => (options.dry_run, format!("{again}; every file is the old one or the new one")),
        Command::Uninstall(options) => (options.dry_run, format!("{again}; every file is there or gone")),
        Command::Gc(options) => (options.dry_run, format!("{again}; what was taken apart stays so")),
        Command::Tenant(Tenant::Create(options)) => (options.dry_run, seen(&options.tenant)),
        Command::Tenant(Tenant::Repair(options)) => (options.dry_run, seen(&options.tenant)),
        Command::Tenant(Tenant::Delete(options)) => {
            (options.dry_run, format!("{again}; until then the tenant gets no new pods"))
        }
        Command::Tenant(Tenant::Prune(options)) => (options.dry_run || !options.delete, again.to_owned()),
        Command::Tenant(Tenant::Set(options)) => (options.dry_run, seen(&options.tenant)),
        Command::Tenant(Tenant::Join(options) | Tenant::Leave(options)) => {
            (options.dry_run, format!("{again}, or finds it done"))
        }
        Command::Subnet(Subnet::Add { tenant, dry_run, .. }) => {
            (*dry_run, format!("`atollctl subnet list {tenant}` shows whether it is there; {}", seen(tenant)))
        }
        Command::Subnet(Subnet::Delete { dry_run, .. }) => (*dry_run, again.to_owned()),
        Command::Attachment(Attachment::EvictNode(options)) => {
            (options.dry_run, format!("{again}; until then no pod of that node can be added"))
        }
        Command::Address(Address::Reserve(options)) => (options.dry_run, format!("{again}, or finds it done")),
        Command::Address(Address::Release(options)) => (options.dry_run, format!("{again}, or finds nothing to do")),
        Command::Address(Address::Check(options)) => (!options.repair, again.to_owned()),
    };
    (!dry_run).then_some(words)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn what_was_done_and_how_to_go_on_is_told() {
        let remains = |line: &str| remains(&Args::parse_from(line.split(' ')).command);
        for line in ["atollctl tenant list", "atollctl tenant delete red --dry-run", "atollctl address check"] {
            assert_eq!(remains(line), None, "{line}");
        }
        let red = remains("atollctl tenant create red").expect("it changes something");
        assert!(red.contains("tenant repair red"), "{red}");
        let said = words(&["no new pods from now on".to_owned()], Some(&red));
        assert!(said.contains("done: no new pods") && said.contains(&format!("try: {red}")), "{said}");
        assert!(words(&[], None).contains("nothing was changed"));
    }
}
