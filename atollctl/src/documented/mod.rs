//! Every command, and every option of it, is in `docs/atollctl.md`; every command's help has an example; every
//! command that changes something has `--dry-run`.
//!
//! | module | what |
//! |---|---|
//! | [`commands`] | every command line in pages, hints and help texts is accepted |
//! | [`keys`] | every key of the configuration in pages and examples is read |
//! | [`pages`] | the pages |

mod commands;
mod keys;
mod pages;

use std::path::Path;

use clap::{Command, CommandFactory as _, Parser as _};

use crate::args::Args;

const PAGE: &str = include_str!("../../../docs/atollctl.md");

/// The commands that change nothing.
const READ_ONLY: [&str; 11] = [
    "topology",
    "doctor",
    "completion",
    "tenant list",
    "tenant show",
    "tenant plan",
    "subnet list",
    "attachment list",
    "attachment show",
    "address list",
    // It repairs only with --repair; without, it is its own plan.
    "address check",
];

/// The commands that do something, with their whole names.
fn commands(command: &Command, above: &str, all: &mut Vec<(String, Command)>) {
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let name = format!("{above}{}", below.get_name());
        if below.has_subcommands() {
            commands(below, &format!("{name} "), all);
        } else {
            all.push((name, below.clone()));
        }
    }
}

fn section(name: &str) -> Option<&'static str> {
    let (_, below) = PAGE.split_once(&format!("\n### `atollctl {name}`\n"))?;
    below.split("\n## ").next()?.split("\n### ").next()
}

#[test]
fn every_command_and_every_option_is_documented() {
    let mut all = Vec::new();
    commands(&Args::command(), "", &mut all);
    let mut wrong = Vec::new();
    for (name, command) in all {
        let Some(section) = section(&name) else {
            wrong.push(format!("docs/atollctl.md has no heading \"### `atollctl {name}`\""));
            continue;
        };
        let options = command.get_arguments().filter(|option| !option.is_global_set());
        for option in options.filter_map(clap::Arg::get_long).filter(|option| *option != "help") {
            if !section.contains(&format!("`--{option}")) {
                wrong.push(format!("docs/atollctl.md: `atollctl {name}` has an option --{option}"));
            }
        }
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !help.contains("Example") || !help.contains(&format!("atollctl {name}")) {
            wrong.push(format!("the help of `atollctl {name}` has no example of it"));
        }
        let plans = command.get_arguments().any(|option| option.get_long() == Some("dry-run"));
        if !plans && !READ_ONLY.contains(&name.as_str()) {
            wrong.push(format!("`atollctl {name}` changes something and has no --dry-run"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_shipped_for_deployment_is_understood() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let read = |name: &str| std::fs::read_to_string(deploy.join(name)).expect("it is there");
    crate::install::check(&deploy.join("cni/10-atoll.conflist")).expect("a configuration that may be installed");
    let unit = read("systemd/atoll-gc.service");
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    Args::try_parse_from(command.split_whitespace()).expect("the unit's command");
    let manifest = read("kubernetes/atoll-node.yaml");
    let lines = manifest.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let lines = lines.skip_while(|line| *line != "- atollctl");
    let command: Vec<_> = lines.map_while(|line| line.strip_prefix("- ")).collect();
    let arguments = Args::try_parse_from(&command).expect("the manifest's command");
    let crate::args::Command::Install(options) = arguments.command else { panic!("it installs") };
    // It finds the directories of the node's runtime by itself.
    assert_eq!((&options.to.bin_dir, &options.to.conf_dir), (&None, &None));
    assert_eq!(options.to.host_root, Path::new("/host"));
    assert!(manifest.contains("{ name: host, mountPath: /host }"));
    // What the configuration names is below the directory that the Secret goes to, whatever is in it.
    let settings = crate::settings::Settings::load(Some(&deploy.join("cni/10-atoll.conflist")));
    let settings = settings.map_err(|failure| failure.message()).expect("a configuration");
    let [secret] = options.secret.as_slice() else { panic!("one directory of secrets: {:?}", options.secret) };
    let named = crate::settings::files(&settings.config);
    assert_eq!(named.len(), 4);
    for file in named {
        assert_eq!(file.path.parent(), Some(secret.target.as_path()), "{}", file.setting);
        let name = file.path.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(manifest.contains(&format!("--from-file={name}")), "{name}");
    }
    assert!(manifest.contains("optional: true"), "where etcd has no TLS there is no Secret");
}
