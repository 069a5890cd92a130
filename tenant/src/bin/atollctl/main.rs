//! `atollctl`: what operators see and do. This file alone prints and ends the process.

mod args;
mod attachment;
mod dot;
mod failure;
mod init;
mod local;
mod output;
mod settings;
mod tenant;
mod topology;
mod tree;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Attachment, Command, Tenant};
use crate::failure::Failure;
use crate::settings::Settings;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(error) => Err(Failure::other(format!("the runtime could not be started: {error}"))),
    };
    match done {
        Ok(text) => {
            // Nobody reads any more (`atollctl ... | head`): that is no failure of ours.
            let mut out = std::io::stdout().lock();
            drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
            ExitCode::SUCCESS
        }
        Err(failure) => {
            drop(std::io::stderr().lock().write_all(failure.to_string().as_bytes()));
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Carries out the command; what it says comes back.
async fn run(args: &Args) -> Result<String, Failure> {
    let settings = Settings::load(args.config.as_deref())?;
    match &args.command {
        Command::Init(options) => init::run(&settings, args.output, options).await,
        Command::Topology(options) => topology::run(&settings, args.output, options).await,
        Command::Tenant(Tenant::List) => tenant::list(&settings, args.output).await,
        Command::Tenant(Tenant::Show(options)) => tenant::show(&settings, args.output, options).await,
        Command::Attachment(Attachment::List(options)) => attachment::list(&settings, args.output, options).await,
    }
}
