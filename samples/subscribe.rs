// Print the events of a feed, and the messages that were lost.
//
//   apt install libzmq3-dev pkg-config && cargo run -- tcp://127.0.0.1:5560 sv1/cam1/
//
// The slash at the end of a topic keeps cam1 apart from cam10. Of frames, whose topic has to be named
// (sv1/cam1/frame/), the tracks are printed too.

use serde_json::Value;
use std::collections::HashMap;
use std::error::Error;

/// Knows the last number of each topic.
#[derive(Default)]
struct Counters {
    epochs: HashMap<String, String>, // source -> id of the run
    last: HashMap<String, u64>,      // topic -> tseq of its last message
}

impl Counters {
    /// Forgets the numbers of a source when its events are of another run.
    fn begin(&mut self, source: &str, epoch: &str) {
        if self.epochs.get(source).map(String::as_str) != Some(epoch) {
            self.epochs.insert(source.into(), epoch.into());
            let prefix = format!("sv1/{source}/");
            self.last.retain(|topic, _| !topic.starts_with(&prefix));
        }
    }

    /// Takes the number of a topic's message, or that of its last one by a heartbeat. Returns
    /// whether it is new: after a restart of the publisher some messages come again.
    fn take(&mut self, topic: &str, tseq: u64, is_heartbeat: bool) -> bool {
        let next = if is_heartbeat { tseq } else { tseq.saturating_sub(1) };
        let before = *self.last.get(topic).unwrap_or(&next);
        if before < next {
            println!("{topic} lost {}-{next}", before + 1);
        }
        self.last.insert(topic.into(), before.max(tseq));
        tseq > before
    }
}

/// Returns the tracks of a frame: each id, and its box in pixels.
fn tracks_of(event: &Value) -> String {
    let tracks = event["tracks"].as_array().into_iter().flatten();
    tracks.map(|one| format!(" {} {}", text(&one["id"]), sides(&one["box_px"]))).collect()
}

fn sides(of_box: &Value) -> String {
    let sides = of_box.as_array().into_iter().flatten().filter_map(Value::as_f64);
    sides.map(|side| side.round().to_string()).collect::<Vec<_>>().join(",")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or("tcp://127.0.0.1:5560".into());
    let prefix = arguments.next().unwrap_or("sv1/".into());
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_rcvhwm(10_000)?;
    socket.set_maxmsgsize(1 << 20)?;
    socket.connect(&endpoint)?;
    socket.set_subscribe(prefix.as_bytes())?;
    let mut counters = Counters::default();
    loop {
        let frames = socket.recv_multipart(0)?;
        if frames.len() < 3 {
            continue;
        }
        let topic = String::from_utf8_lossy(&frames[0]);
        let event: Value = serde_json::from_slice(&frames[2])?;
        let (source, kind) = (text(&event["source"]), text(&event["type"]));
        counters.begin(source, text(&event["epoch"]));
        if kind == "hb" {
            for (family, count) in event["hb"]["last"].as_object().into_iter().flatten() {
                let counter = format!("sv1/{source}/{family}/");
                if counter.starts_with(&prefix) {
                    counters.take(&counter, count.as_u64().unwrap_or(0), true);
                }
            }
            println!("{topic} heartbeat");
        } else {
            let tseq = u64::from_be_bytes(frames[1].as_slice().try_into()?);
            if counters.take(&topic, tseq, false) {
                println!("{topic} {tseq} {kind}{}", tracks_of(&event));
            }
        }
    }
}
