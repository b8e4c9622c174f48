// Print the events of a feed, and the messages that were lost.
//
//   npm install && node subscribe.mjs tcp://127.0.0.1:5560 sv1/cam1/
//
// The slash at the end of a topic keeps cam1 apart from cam10. Of frames, whose topic has to be named
// (sv1/cam1/frame/), the tracks are printed too.

import { Subscriber } from "zeromq"

const [endpoint = "tcp://127.0.0.1:5560", prefix = "sv1/"] = process.argv.slice(2)
const epochs = new Map() // source -> id of the run
const last = new Map() // topic -> tseq of its last message

// Takes the number of a topic's message, or that of its last one by a heartbeat. Returns whether
// it is new: after a restart of the publisher some messages come again.
function counted(topic, tseq, isHeartbeat) {
  const before = last.get(topic) ?? (isHeartbeat ? tseq : tseq - 1)
  const next = isHeartbeat ? tseq : tseq - 1
  if (before < next) console.log(`${topic} lost ${before + 1}-${next}`)
  last.set(topic, Math.max(before, tseq))
  return tseq > before
}

// The tracks of a frame: each id, and its box in pixels.
function tracksOf({ tracks = [] }) {
  return tracks.map(({ id, box_px }) => ` ${id} ${box_px.map(Math.round)}`).join("")
}

const socket = new Subscriber({ maxMessageSize: 1 << 20, receiveHighWaterMark: 10000 })
socket.connect(endpoint)
socket.subscribe(prefix)
for await (const [topicFrame, tseqFrame, payload] of socket) {
  const topic = topicFrame.toString()
  const tseq = Number(tseqFrame.readBigUInt64BE())
  const event = JSON.parse(payload.toString())
  if (epochs.get(event.source) !== event.epoch) {
    epochs.set(event.source, event.epoch)
    for (const known of last.keys()) if (known.startsWith(`sv1/${event.source}/`)) last.delete(known)
  }
  if (event.type === "hb") {
    for (const [family, count] of Object.entries(event.hb.last)) {
      const counter = `sv1/${event.source}/${family}/`
      if (counter.startsWith(prefix)) counted(counter, count, true)
    }
    console.log(`${topic} heartbeat`)
  } else if (counted(topic, tseq, false)) {
    console.log(`${topic} ${tseq} ${event.type}${tracksOf(event)}`)
  }
}
