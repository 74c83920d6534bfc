//! `motorcade vehicle add | list | show | assign | cancel | history | clear | approve-replacement | token`

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio_util::io::ReaderStream;

use super::api::Api;
use super::output::print_line;
use crate::config::ClientSettings;
use crate::model::{EcuSerial, ImagePath, VehicleId};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Registers vehicles from JSON Lines or CSV; what is registered already stays as it is
    Add {
        #[command(flatten)]
        client: ClientSettings,
        /// File with a vehicle a line (JSON Lines) or an ECU a line (CSV, if it ends in .csv); `-` for standard input
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists vehicles
    List {
        #[command(flatten)]
        client: ClientSettings,
        /// Only those in quarantine
        #[arg(long)]
        quarantined: bool,
        /// Only those that have sent no manifest since, such as 2026-11-24T10:00:00Z
        #[arg(long, value_name = "TIME")]
        silent_since: Option<String>,
        /// Print JSON, a line a vehicle
        #[arg(long)]
        json: bool,
    },
    /// Shows a vehicle, its ECUs, and what they run
    Show {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Assigns images to ECUs, all or none
    Assign {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// ECU and image, as in gw-0001=gw/4.2.0/gateway.bin; repeat for more
        #[arg(required = true, value_name = "ECU=IMAGE", value_parser = parse_assignment)]
        assignments: Vec<(EcuSerial, ImagePath)>,
        /// Let release counters go down, and say why; a vehicle that had the higher one refuses all the same
        #[arg(long, value_name = "REASON")]
        allow_rollback: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Lists a vehicle's assignments
    Assignments {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// Print JSON, a line an assignment
        #[arg(long)]
        json: bool,
    },
    /// Takes an assignment back
    Cancel {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// Id of the assignment, as listed
        id: String,
    },
    /// Lists what happened to a vehicle, the newest first
    History {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// Print JSON, a line an event
        #[arg(long)]
        json: bool,
    },
    /// Clears the quarantine of a vehicle that has reported an attack
    Clear {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// What was found out, for the record
        #[arg(long)]
        reason: String,
    },
    /// Approves that an ECU is replaced, once and for a while
    ApproveReplacement {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
        /// The ECU that goes
        serial: EcuSerial,
        /// Hours for which the approval is valid
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=720))]
        hours: u64,
    },
    /// Makes a bearer token for a vehicle and prints it, and nothing else; the one before stops working
    Token {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the vehicle
        vin: VehicleId,
    },
}

impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("vehicle::Args") // it may hold a token
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Add { client, file, json } => add(&Api::new(client)?, file, json).await,
        Command::List { client, quarantined, silent_since, json } => {
            list(&Api::new(client)?, quarantined, silent_since, json).await
        }
        Command::Show { client, vin, json } => show(&Api::new(client)?, &vin, json).await,
        Command::Assign { client, vin, assignments, allow_rollback, json } => {
            assign(&Api::new(client)?, &vin, assignments, allow_rollback, json).await
        }
        Command::Assignments { client, vin, json } => assignments(&Api::new(client)?, &vin, json).await,
        Command::Cancel { client, vin, id } => {
            let api = Api::new(client)?;
            api.send(api.request(Method::DELETE, &format!("vehicles/{vin}/assignments/{id}"))).await?;
            done(format_args!("Cancelled {id}"))
        }
        Command::History { client, vin, json } => history(&Api::new(client)?, &vin, json).await,
        Command::Clear { client, vin, reason } => {
            let api = Api::new(client)?;
            let request = api.request(Method::DELETE, &format!("vehicles/{vin}/quarantine"));
            api.send(request.json(&json!({ "reason": reason }))).await?;
            done(format_args!("Cleared {vin}"))
        }
        Command::ApproveReplacement { client, vin, serial, hours } => {
            let api = Api::new(client)?;
            let request = api.request(Method::POST, &format!("vehicles/{vin}/ecus/{serial}/replacement"));
            let approved = api.json(request.json(&json!({ "expires_in_seconds": hours * 3600 }))).await?;
            let until = approved["expires_at"].as_str().unwrap_or_default();
            done(format_args!("Approved the replacement of {serial} until {until}"))
        }
        Command::Token { client, vin } => {
            let api = Api::new(client)?;
            let issued = api.json(api.request(Method::POST, &format!("vehicles/{vin}/token"))).await?;
            print_line(issued["token"].as_str().unwrap_or_default())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn done(line: std::fmt::Arguments<'_>) -> anyhow::Result<ExitCode> {
    eprintln!("{line}");
    Ok(ExitCode::SUCCESS)
}

fn parse_assignment(text: &str) -> Result<(EcuSerial, ImagePath), String> {
    let (serial, path) = text.split_once('=').ok_or("write the ECU's serial, `=`, and the image's path")?;
    let serial = serial.parse().map_err(|error: crate::model::ParseFieldError| error.to_string())?;
    let path = path.parse().map_err(|error: crate::model::ParseImagePathError| error.to_string())?;
    Ok((serial, path))
}

async fn add(api: &Api, file: PathBuf, as_json: bool) -> anyhow::Result<ExitCode> {
    let is_csv = file.extension().is_some_and(|extension| extension == "csv");
    let body = if file.as_os_str() == "-" {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).context("failed to read standard input")?;
        Body::from(text)
    } else {
        let file = tokio::fs::File::open(&file).await.with_context(|| format!("failed to open {}", file.display()))?;
        Body::wrap_stream(ReaderStream::with_capacity(file, PIECE_SIZE))
    };
    let content_type = if is_csv { "text/csv" } else { "application/jsonl" };
    let request = api.request(Method::POST, "vehicles").header("Content-Type", content_type).body(body);
    let report = api.json(request).await?;
    if as_json {
        print_line(&report)?;
    } else {
        let count = |name: &str| report[name].as_u64().unwrap_or_default();
        eprintln!("Registered {}, unchanged {}, refused {}", count("registered"), count("unchanged"), count("refused"));
        for fault in report["faults"].as_array().into_iter().flatten() {
            eprintln!("line {}: {}", fault["line"], fault["detail"].as_str().unwrap_or_default());
        }
    }
    let all_in = report["refused"].as_u64() == Some(0);
    Ok(if all_in { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn list(api: &Api, quarantined: bool, silent_since: Option<String>, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut cursor = String::new();
    loop {
        let mut query = vec![("limit", "1000".to_owned()), ("cursor", cursor)];
        query.extend(quarantined.then(|| ("quarantined", "true".to_owned())));
        query.extend(silent_since.clone().map(|time| ("silent_since", time)));
        let page = api.json(api.request(Method::GET, "vehicles").query(&query)).await?;
        for vehicle in page["vehicles"].as_array().into_iter().flatten() {
            if as_json {
                print_line(vehicle)?;
            } else {
                print_line(line(vehicle))?;
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn line(vehicle: &Value) -> String {
    let seen = vehicle["seen_at"].as_str().unwrap_or("never");
    let ecus = vehicle["ecus"].as_array().map_or(0, Vec::len);
    let waiting = vehicle["ecus"].as_array().into_iter().flatten().filter(|ecu| !ecu["assigned"].is_null()).count();
    let note = if vehicle["quarantine"].is_null() { "" } else { "  quarantine" };
    format!("{}  {ecus} ECUs, {waiting} to update  seen {seen}{note}", vehicle["vin"].as_str().unwrap_or_default())
}

async fn show(api: &Api, vin: &VehicleId, as_json: bool) -> anyhow::Result<ExitCode> {
    let vehicle = api.json(api.request(Method::GET, &format!("vehicles/{vin}"))).await?;
    if as_json {
        print_line(&vehicle)?;
        return Ok(ExitCode::SUCCESS);
    }
    print_line(line(&vehicle))?;
    if let Some(reason) = vehicle["quarantine"]["reason"].as_str() {
        print_line(format_args!("  in quarantine: {reason}"))?;
    }
    for ecu in vehicle["ecus"].as_array().into_iter().flatten() {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        print_line(format_args!(
            "  {}  {}  {}  runs {}  is to run {}",
            text(&ecu["ecu_serial"]),
            text(&ecu["hardware_id"]),
            text(&ecu["role"]),
            text(&ecu["installed"]["path"]),
            text(&ecu["assigned"]),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn assign(
    api: &Api,
    vin: &VehicleId,
    assignments: Vec<(EcuSerial, ImagePath)>,
    allow_rollback: Option<String>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let items: Vec<Value> =
        assignments.iter().map(|(serial, image)| json!({ "ecu_serial": serial, "image": image })).collect();
    let mut body = json!({ "assignments": items });
    if let Some(reason) = allow_rollback {
        if reason.trim().is_empty() {
            bail!("--allow-rollback takes a reason, which is recorded");
        }
        body["rollback_reason"] = reason.into();
    }
    let assigned = api.json(api.request(Method::POST, &format!("vehicles/{vin}/assignments")).json(&body)).await?;
    if as_json {
        print_line(&assigned)?;
    } else {
        for (serial, image) in assignments {
            eprintln!("Assigned {image} to {serial}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn assignments(api: &Api, vin: &VehicleId, as_json: bool) -> anyhow::Result<ExitCode> {
    let list = api.json(api.request(Method::GET, &format!("vehicles/{vin}/assignments"))).await?;
    for assignment in list["assignments"].as_array().into_iter().flatten() {
        if as_json {
            print_line(assignment)?;
            continue;
        }
        let text = |name: &str| assignment[name].as_str().unwrap_or_default().to_owned();
        let outcome = assignment["outcome"].as_str().unwrap_or("open");
        let (id, at) = (text("id"), text("created_at"));
        print_line(format_args!("{id}  {at}  {}  {}  {outcome}", text("ecu_serial"), text("image")))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn history(api: &Api, vin: &VehicleId, as_json: bool) -> anyhow::Result<ExitCode> {
    let mut before = None;
    loop {
        let mut request = api.request(Method::GET, &format!("vehicles/{vin}/history")).query(&[("limit", "1000")]);
        if let Some(before) = before {
            request = request.query(&[("before", before)]);
        }
        let page = api.json(request).await?;
        for event in page["events"].as_array().into_iter().flatten() {
            if as_json {
                print_line(event)?;
                continue;
            }
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            let times = event["count"].as_u64().filter(|count| *count > 1).map(|count| format!(" ({count} times)"));
            let (serial, times) = (event["ecu_serial"].as_str().unwrap_or("-"), times.unwrap_or_default());
            print_line(format_args!("{}  {}  {serial}  {}{times}", text("at"), text("kind"), text("detail")))?;
        }
        match page["next_before"].as_i64() {
            Some(next) => before = Some(next),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

const PIECE_SIZE: usize = 256 * 1024; // 256 KiB
