//! `reel completions` and `reel man`: what shells and `man` know of the command line, made from the command line itself.

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The program's name.
const NAME: &str = "reel";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell; bash reads them with `source <(reel completions bash)`
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where a page for each command goes [default: the page of `reel` itself, to standard output]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, NAME, &mut script);
    Ok(print(&script)?)
}

pub(crate) fn man(args: &ManArgs, command: Command) -> anyhow::Result<()> {
    match &args.dir {
        Some(dir) => pages(dir, command),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            Ok(print(&page)?)
        }
    }
}

fn pages(dir: &Path, command: Command) -> anyhow::Result<()> {
    let named = || format!("cannot write pages to {}", dir.display());
    fs::create_dir_all(dir).with_context(named)?;
    clap_mangen::generate_to(command, dir).with_context(named)
}

/// Whoever has closed the other end (`| head`) has read enough.
fn print(bytes: &[u8]) -> io::Result<()> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cli;
    use clap::{CommandFactory, ValueEnum};

    /// Names of every command below `command`, joined as its page is called.
    fn all_pages(command: &Command, prefix: &str) -> Vec<String> {
        let children = command
            .get_subcommands()
            .filter(|child| child.get_name() != "help" && !child.is_hide_set());
        children
            .flat_map(|child| {
                let name = format!("{prefix}-{}", child.get_name());
                let below = all_pages(child, &name);
                [name].into_iter().chain(below)
            })
            .collect()
    }

    #[test]
    fn every_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        pages(directory.path(), Cli::command()).unwrap();
        let names = all_pages(&Cli::command(), NAME);
        assert!(names.contains(&"reel-key-create".into()), "{names:?}");
        for name in names {
            let page = fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
            assert!(
                page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
                "{name}: {page}"
            );
        }
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}");
            }
            assert!(script.contains("priority-max"), "{shell}");
        }
    }
}
