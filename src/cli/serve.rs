//! `motorcade serve`

use std::pin::pin;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{LogFormat, LogSettings, ServeSettings};
use crate::server::Server;
use crate::telemetry::{self, TelemetryConfig};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: ServeSettings,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // First: other signals end a process that doesn't await them, and one that is the first of its
    // container is not even ended by SIGTERM.
    let others = OtherSignals::await_them()?;
    let mut stop = pin!(stop_signal()?);
    let config = args.settings.resolve()?;
    let telemetry = telemetry::init(&telemetry_config(&config.log))?;
    let server = tokio::select! {
        bound = Server::bind(config, telemetry.trace_export()) => bound?,
        () = stop.as_mut() => {
            tracing::info!("stopped while it started");
            return Ok(ExitCode::SUCCESS);
        }
    };
    tracing::info!(address = %server.address()?, version = env!("CARGO_PKG_VERSION"), "motorcade listens");
    if let Some(address) = server.tls_address()? {
        tracing::info!(%address, "motorcade listens for TLS");
    }
    others.answer(server.reloader());
    if let Err(error) = server.run(stop).await {
        // In the log, which waits for nobody, and not on stderr, which may have no reader.
        tracing::error!(error = super::chain(&error), "motorcade has failed");
        return Ok(ExitCode::from(super::EXIT_FAILURE));
    }
    Ok(ExitCode::SUCCESS)
}

fn telemetry_config(log: &LogSettings) -> TelemetryConfig {
    TelemetryConfig {
        log_format: match log.log_format {
            None => telemetry::LogFormat::Auto,
            Some(LogFormat::Text) => telemetry::LogFormat::Text,
            Some(LogFormat::Json) => telemetry::LogFormat::Json,
        },
        log_filter: log.log.clone().unwrap_or_else(|| "motorcade=info,warn".to_owned()),
        otlp_endpoint: log.otlp_endpoint.clone(),
        service_name: "motorcade".to_owned(),
    }
}

/// SIGHUP, which reads the TLS files again, and SIGUSR1 and SIGUSR2, which mean nothing here; each
/// of them would end the process in the middle of whatever it is at.
struct OtherSignals {
    hang_up: Signal,
    first: Signal,
    second: Signal,
}

impl OtherSignals {
    fn await_them() -> std::io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            first: signal(SignalKind::user_defined1())?,
            second: signal(SignalKind::user_defined2())?,
        })
    }

    fn answer(mut self, reload: impl Fn() + Send + 'static) {
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = self.hang_up.recv() => reload(),
                    _ = self.first.recv() => tracing::info!("SIGUSR1 ignored"),
                    _ = self.second.recv() => tracing::info!("SIGUSR2 ignored"),
                }
            }
        });
    }
}

/// SIGTERM or SIGINT. A second SIGINT ends the process at once: all state survives that.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {
                tokio::spawn(async move {
                    interrupt.recv().await;
                    std::process::exit(130);
                });
            }
        }
    })
}
