//! gdb's remote protocol, as much of it as stepping two machines needs.
//!
//! What it is: requests and answers over one connection. What it is not: anything about registers of a CPU. What must
//! always hold: one request is on its way at a time, since a stub that runs takes any byte for "stop".

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a stub may think.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Rsp {
    stream: UnixStream,
    /// What came and was not looked at.
    rest: Vec<u8>,
    acknowledges: bool,
    last: String,
}

impl Rsp {
    pub fn unix(path: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }

    fn over(stream: UnixStream) -> Self {
        let mut rsp = Self { stream, rest: Vec::new(), acknowledges: true, last: String::new() };
        rsp.ask("qSupported:swbreak+;hwbreak+;vContSupported+");
        if rsp.ask("QStartNoAckMode") == "OK" {
            rsp.acknowledges = false;
        }
        rsp
    }

    /// Sends a request; [`answer`](Self::answer) takes what comes.
    pub fn send(&mut self, request: &str) {
        let sum = request.bytes().fold(0_u8, u8::wrapping_add);
        self.last.clear();
        self.last.push_str(&request[..request.len().min(40)]);
        self.stream.write_all(format!("${request}#{sum:02x}").as_bytes()).unwrap();
    }

    pub fn answer(&mut self) -> String {
        loop {
            let start = self.rest.iter().position(|byte| *byte == b'$');
            let end = start.and_then(|start| {
                let end = self.rest[start..].iter().position(|byte| *byte == b'#')? + start;
                (self.rest.len() >= end + 3).then_some((start, end))
            });
            if let Some((start, end)) = end {
                let packet = &self.rest[start + 1..end];
                let text = String::from_utf8(packet.to_vec()).unwrap();
                let sum = packet.iter().copied().fold(0_u8, u8::wrapping_add);
                let said = std::str::from_utf8(&self.rest[end + 1..end + 3]).unwrap();
                assert_eq!(u8::from_str_radix(said, 16).unwrap(), sum, "the sum of {text:?}");
                self.rest.drain(..end + 3);
                if self.acknowledges {
                    self.stream.write_all(b"+").unwrap();
                }
                assert!(!text.contains('*'), "{text:?} is compressed");
                return text;
            }
            let mut bytes = [0; 4096];
            let n = self.stream.read(&mut bytes);
            let n = n.unwrap_or_else(|error| panic!("no answer to {:?}: {error}", self.last));
            assert!(n > 0, "the stub hung up after {:?}", self.last);
            self.rest.extend_from_slice(&bytes[..n]);
        }
    }

    pub fn ask(&mut self, request: &str) -> String {
        self.send(request);
        self.answer()
    }

    /// Like [`ask`](Self::ask), where the answer must be `OK`.
    pub fn tell(&mut self, request: &str) {
        let answer = self.ask(request);
        assert_eq!(answer, "OK", "{request:.60}");
    }

    /// Memory, or nothing if it cannot be read.
    pub fn read(&mut self, at: u32, len: usize) -> Option<Vec<u8>> {
        let answer = self.ask(&format!("m{at:x},{len:x}"));
        (answer.len() == 2 * len).then(|| bytes(&answer))
    }

    pub fn write(&mut self, at: u32, data: &[u8]) {
        let mut at = at;
        // What fits in a packet of every stub.
        for piece in data.chunks(1024) {
            let mut request = format!("M{at:x},{:x}:", piece.len());
            piece.iter().for_each(|byte| write!(request, "{byte:02x}").unwrap());
            self.tell(&request);
            at = at.wrapping_add(piece.len() as u32);
        }
    }
}

pub fn bytes(hex: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
