function row = score_3dhp_row(errors)
% Scores of 17 x frames errors in mm, as numbers in a row: MPJPE of each joint and their average (mm), then PCK of each
% joint group and the total, then AUC of the same (percent).
    names = score_3dhp_names();
    thresholds = 0:5:150;
    correct = zeros(14, numel(thresholds));  % share of frames in which the joint's error is less than the threshold
    for t = 1:numel(thresholds)
        correct(:, t) = mean(errors(1:14, :) < thresholds(t), 2);
    end
    num_groups = numel(names.groups);
    pck = zeros(1, num_groups);
    auc = zeros(1, num_groups);
    for g = 1:num_groups
        curve = mean(correct(names.members{g}, :), 1);
        pck(g) = 100 * curve(end);
        auc(g) = 100 * mean(curve);
    end
    row = [mean(errors, 2)', mean(errors(:)), pck, auc];
end
