// Print the events of a feed, and the messages that were lost.
//
//   apt install g++ libzmq3-dev cppzmq-dev nlohmann-json3-dev
//   g++ -std=c++17 subscribe.cpp -o subscribe -lzmq
//   ./subscribe tcp://127.0.0.1:5560 sv1/cam1/
//
// The slash at the end of a topic keeps cam1 apart from cam10. Of frames, whose topic has to be named
// (sv1/cam1/frame/), the tracks are printed too.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>
#include <zmq.hpp>

using Frames = std::vector<zmq::message_t>;

// Knows the last number of each topic.
class Counters {
 public:
  // Forgets the numbers of a source when its events are of another run.
  void begin(const std::string& source, const std::string& epoch) {
    if (epochs_[source] == epoch) return;
    epochs_[source] = epoch;
    const std::string prefix = "sv1/" + source + "/";
    for (auto one = last_.lower_bound(prefix); one != last_.end() && one->first.rfind(prefix, 0) == 0;)
      one = last_.erase(one);
  }

  // Takes the number of a topic's message, or that of its last one by a heartbeat. Returns whether
  // it is new: after a restart of the publisher some messages come again.
  bool take(const std::string& topic, std::uint64_t tseq, bool is_heartbeat) {
    const std::uint64_t next = is_heartbeat ? tseq : tseq - 1;
    std::uint64_t& last = last_.try_emplace(topic, next).first->second;
    const std::uint64_t before = last;
    if (before < next) std::cout << topic << " lost " << before + 1 << "-" << next << std::endl;
    last = std::max(before, tseq);
    return tseq > before;
  }

 private:
  std::map<std::string, std::string> epochs_;   // source -> id of the run
  std::map<std::string, std::uint64_t> last_;   // topic -> tseq
};

Frames receive(zmq::socket_t& socket) {
  Frames frames;
  do {
    frames.emplace_back();
    (void)socket.recv(frames.back());
  } while (frames.back().more());
  return frames;
}

std::uint64_t big_endian(const zmq::message_t& frame) {
  std::uint64_t value = 0;
  for (const unsigned char byte : frame.to_string()) value = value << 8 | byte;
  return value;
}

// The tracks of a frame: each id, and its box in pixels.
std::string tracks_of(const nlohmann::json& event) {
  std::string text;
  for (const auto& track : event.value("tracks", nlohmann::json::array())) {
    std::string box;
    for (const double side : track.at("box_px"))
      box += (box.empty() ? "" : ",") + std::to_string(std::lround(side));
    text += " " + track.at("id").get<std::string>() + " " + box;
  }
  return text;
}

int main(int argc, char** argv) {
  const std::string endpoint = argc > 1 ? argv[1] : "tcp://127.0.0.1:5560";
  const std::string prefix = argc > 2 ? argv[2] : "sv1/";
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.set(zmq::sockopt::rcvhwm, 10000);
  socket.set(zmq::sockopt::maxmsgsize, std::int64_t{1} << 20);
  socket.connect(endpoint);
  socket.set(zmq::sockopt::subscribe, prefix);
  Counters counters;
  while (true) {
    const Frames frames = receive(socket);
    if (frames.size() < 3) continue;
    const std::string topic = frames[0].to_string();
    const auto event = nlohmann::json::parse(frames[2].to_string());
    const std::string source = event.at("source"), type = event.at("type");
    counters.begin(source, event.at("epoch"));
    if (type == "hb") {
      for (const auto& [family, count] : event.at("hb").at("last").items()) {
        const std::string counter = "sv1/" + source + "/" + family + "/";
        if (counter.rfind(prefix, 0) == 0) counters.take(counter, count, true);
      }
      std::cout << topic << " heartbeat" << std::endl;
    } else if (const auto tseq = big_endian(frames[1]); counters.take(topic, tseq, false)) {
      std::cout << topic << " " << tseq << " " << type << tracks_of(event) << std::endl;
    }
  }
}
