//! As much of HTTP/1.1 as a load generator needs: it has the same two cores as what it measures.

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Sends a request and reads its answer; returns the status and the body.
pub(crate) async fn ask<S>(
    stream: &mut S,
    head: &str,
    body: &[u8],
) -> anyhow::Result<(u16, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::with_capacity(head.len() + body.len() + 64);
    request.extend_from_slice(head.as_bytes());
    if !body.is_empty() {
        request.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut buffer = Vec::with_capacity(4096);
    let (end, length) = read_head(stream, &mut buffer).await?.context("no answer")?;
    let line = String::from_utf8_lossy(&buffer[..end]);
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.context("no status")?;
    while buffer.len() < end + length {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "it ends within a body");
    }
    Ok((status, buffer.split_off(end)))
}

/// Reads until a head is there; returns where it ends and the length of its body. None at the end of
/// the connection.
pub(crate) async fn read_head<S>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<Option<(usize, usize)>>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..at]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            return Ok(Some((at + 4, length.map_or(Ok(0), |length| length.trim().parse())?)));
        }
        if stream.read_buf(buffer).await? == 0 {
            if buffer.is_empty() {
                return Ok(None);
            }
            bail!("it ends within a head");
        }
    }
}
