treadle_test(reference.optimizer_trajectories
  SOURCES optimizer_trajectories_test.cpp
  LABEL reference
  PRECOMPILED nn
  LIBRARIES treadle_solver treadle_base nlohmann_json::nlohmann_json)
