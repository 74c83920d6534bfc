//! `motorcade completions` and `motorcade man`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
    /// The program
    #[arg(long, default_value = "motorcade")]
    program: Program,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The program
    #[arg(long, default_value = "motorcade")]
    program: Program,
    /// Folder for a page of each command [default: the program's own page alone, on standard
    /// output]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// The programs that there are pages of.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Program {
    /// The server and its command line
    Motorcade,
    /// The vehicle's side
    MotorcadeVehicle,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Motorcade => "motorcade",
            Self::MotorcadeVehicle => "motorcade-vehicle",
        }
    }

    /// Section of the manual. The page of `motorcade vehicle` is motorcade-vehicle(1).
    fn section(self) -> &'static str {
        match self {
            Self::Motorcade => "1",
            Self::MotorcadeVehicle => "8",
        }
    }

    /// `own` is the command line of the program that runs.
    fn command(self, own: Command) -> Command {
        match self {
            Self::Motorcade => own,
            Self::MotorcadeVehicle => crate::vehicle::cli::Cli::command(),
        }
    }
}

pub(super) fn completions(args: &CompletionsArgs, own: Command) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let mut command = args.program.command(own);
    clap_complete::generate(args.shell, &mut command, args.program.name(), &mut text);
    io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs, own: Command) -> anyhow::Result<ExitCode> {
    let program = args.program;
    let mut command = program.command(own);
    command.build();
    match &args.out {
        Some(folder) => {
            fs::create_dir_all(folder)
                .with_context(|| format!("failed to create {}", folder.display()))?;
            write_pages(command, program.name(), program.section(), folder)?;
        }
        None => io::stdout().write_all(&page(command, program.name(), program.section())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `motorcade.1`, `motorcade-image.1`, `motorcade-image-push.1`.
fn write_pages(command: Command, name: &str, section: &str, folder: &Path) -> anyhow::Result<()> {
    for below in
        command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        write_pages(below.clone(), &format!("{name}-{}", below.get_name()), section, folder)?;
    }
    let path = folder.join(format!("{name}.{section}"));
    fs::write(&path, page(command, name, section)?)
        .with_context(|| format!("failed to write {}", path.display()))
}

fn page(command: Command, name: &str, section: &str) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).title(name).section(section).render(&mut page)?;
    Ok(page)
}
