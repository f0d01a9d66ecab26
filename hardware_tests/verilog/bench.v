// Runs one core of a layer on the test vectors in the current folder and prints what it gives, one neuron a line: draw,
// potential before and after the reset, spike, saturation.
module bench;
    parameter ROUNDS = 1, STEPS = 1;                  // images times steps; steps of an image
    parameter LAYER = 1, FIRST = 0, NEURONS = 1;      // neurons of the layer, of the earlier cores, of this one
    parameter CORE = 0, PIXELS = 1, BIAS_STEP = 0;    // BIAS_STEP: one bias per neuron, else per channel
    parameter CHANNELS = 1, BIASES = 1, CORES = 1;
    parameter SUM_BITS = 32, BIAS_BITS = 32;          // of signed words, 32 where they are unsigned
    parameter K = 8, F = 6, SUBTRACT = 0, PER_IMAGE = 0;

    reg [31:0] sums [0:ROUNDS*LAYER-1], biases [0:BIASES-1], thresholds [0:CHANNELS-1], seeds [0:CORES-1];
    reg clock = 0, load = 0, start = 0, first, last;
    reg signed [31:0] sum, word;
    reg signed [23:0] bias, threshold;
    wire ready, done, spike, saturated;
    wire [7:0] draw;
    wire signed [23:0] before, after;
    integer round, n, place;

    randhet_lif #(.NEURONS(NEURONS), .K(K), .F(F), .SUBTRACT(SUBTRACT), .PER_IMAGE(PER_IMAGE)) core (
        .clock(clock), .load(load), .seed(seeds[CORE]), .start(start), .first(first), .last(last), .sum(sum),
        .bias(bias), .threshold(threshold), .ready(ready), .done(done), .spike(spike), .saturated(saturated),
        .draw(draw), .before(before), .after(after));

    always #1 clock = !clock;

    function signed [31:0] extended(input [31:0] bits, input integer width);
        extended = $signed(bits << (32 - width)) >>> (32 - width);
    endfunction

    initial begin
        $readmemh("sums.hex", sums);
        $readmemh("bias.hex", biases);
        $readmemh("threshold.hex", thresholds);
        $readmemh("registers.hex", seeds);
        load = 1;
        @(negedge clock) @(negedge clock) load = 0;
        for (round = 0; round < ROUNDS; round = round + 1)
            for (n = FIRST; n < FIRST + NEURONS; n = n + 1) begin
                first = round % STEPS == 0;
                last = round % STEPS == STEPS - 1;
                sum = extended(sums[round * LAYER + n], SUM_BITS);
                word = extended(biases[BIAS_STEP ? n : n / PIXELS], BIAS_BITS);
                bias = word[23:0];
                threshold = thresholds[n / PIXELS][23:0];
                start = 1;
                @(negedge clock) start = 0;
                while (!done) @(negedge clock);
                $display("%0d %0d %0d %0d %0d", draw, before, after, spike, saturated);
            end
        $finish;
    end
endmodule
