//! `atoll-quickstart`: two tenants with real pods on this machine, and a table of who reaches whom.
//!
//! The script `quickstart` starts it, after it has built the programs, checked the machine and removed an earlier run.
//! Exit code: 0 if each pod reaches exactly what it should, 1 if not, 2 if it failed before or its output was lost, 128
//! and the signal's number if it was interrupted.
//!
//! | module | what |
//! |---|---|
//! | [`args`] | the command line |
//! | [`cluster`] | what the pods need: machines with a plugin each, etcd, an external network |
//! | [`midonet`] | such a cluster of one machine, with the mock controller |
//! | [`ovn`] | such a cluster of three machines, with OVN |
//! | [`setup`] | the pods, through the CNI protocol |
//! | [`matrix`] | who should reach whom, and who does |
//! | [`report`] | the facts, as text for people and as JSON for programs |
//! | [`progress`] | progress, on standard error |

mod args;
mod cluster;
mod matrix;
mod midonet;
mod ovn;
mod progress;
mod report;
mod setup;

use std::process::ExitCode;

use anyhow::Result;
use atoll_node::files::{make, print};
use atoll_tools::signals;
use clap::Parser;

use args::QuickstartArgs;
use progress::QuickstartProgress;
use report::Facts;
use setup::Setup;

fn main() -> ExitCode {
    make::umask();
    let args = match QuickstartArgs::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => error.exit(),
        Err(help) => return print::help(&help.render().to_string(), &help.render().ansi().to_string()),
    };
    let interrupted = format!("interrupted; {}", how_to_end(&args));
    let (text, code) = match signals::end_with(interrupted).and_then(|()| up(&args)) {
        Ok(facts) => {
            let text = if args.json { report::json(&facts) } else { report::text(&facts) };
            (text, if facts.ok { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Err(error) => {
            let hint = how_to_end(&args);
            let text = if args.json { report::json_error(&error) } else { String::new() };
            print::say(&format!("error: {error:#}\n{hint}\n"));
            (text, ExitCode::from(2))
        }
    };
    if print::or_say(&text, &how_to_end(&args)) { code } else { ExitCode::from(2) }
}

/// What remains if it is interrupted.
fn how_to_end(args: &QuickstartArgs) -> String {
    format!("what was started is left for inspection; `{}` removes it", report::down(&args.prefix))
}

fn up(args: &QuickstartArgs) -> Result<Facts> {
    let progress = QuickstartProgress::start();
    let setup = Setup::start(args, &progress)?;
    let endpoints = setup.endpoints()?;
    setup.wait_for_packets(&endpoints, &progress)?;
    progress.step("asking everyone for everyone");
    let cells = matrix::measure(&endpoints)?;
    progress.step("reading the topology");
    let facts = setup.facts(cells)?;
    progress.end();
    Ok(facts)
}
